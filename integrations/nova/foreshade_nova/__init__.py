"""Asks Foreshade which host a guest should go to, on behalf of Nova's scheduler and of Watcher.

Nothing but the standard library is used at run time, beside what Nova or Watcher bring along.
"""
