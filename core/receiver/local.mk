# core/receiver
