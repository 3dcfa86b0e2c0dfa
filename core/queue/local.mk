# core/queue
