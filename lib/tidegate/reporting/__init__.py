"""Listeners of the corridor's events: logs and figures.

A listener only reads; nothing here can change, slow or break a call.
"""
