# core/route
