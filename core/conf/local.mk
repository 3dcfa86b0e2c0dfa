# core/conf
