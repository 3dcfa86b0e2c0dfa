# milters/rewrite
