# SPDX-License-Identifier: ISC
"""server - answer each connection to a listener on a thread of its own"""
import threading


def serve(listener, session):
    """session(connection) for each, until the listener is closed."""
    def accept():
        while True:
            try:
                conn, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=session, args=(conn,),
                             daemon=True).start()
    threading.Thread(target=accept, daemon=True).start()
