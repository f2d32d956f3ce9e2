"""What stands behind the public modules: arguments, options, ports, and the engine that a network drives.

``loading`` makes an ``engine`` of a file and settings; the engine has ``ports`` for inputs and outputs and a session.
The public modules of the package are named as the original's and hold what programs import.
"""
