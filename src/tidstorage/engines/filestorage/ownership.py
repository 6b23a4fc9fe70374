"""What root makes beside somebody's Data.fs is given to whom the Data.fs belongs.

Else their server could not open what a restore by root has left.
"""
