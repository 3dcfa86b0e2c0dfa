# milters/virus
