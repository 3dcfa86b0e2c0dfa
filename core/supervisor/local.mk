# core/supervisor
