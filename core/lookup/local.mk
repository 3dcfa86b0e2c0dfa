# core/lookup
