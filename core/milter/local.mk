# core/milter
