# core/relay
