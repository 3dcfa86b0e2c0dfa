# milters/access
