"""Faults on purpose: on the line, in the daemon's process, on its disk and to its clock.

Each works on real sockets, processes and files, from outside or by a script that patches one
function of the daemon; production code knows nothing of it. What is drawn at random is drawn from
a seed.
"""
