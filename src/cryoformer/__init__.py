"""CryoFormer: continuous heterogeneous reconstruction for cryo-EM.

Nothing heavy is imported here, so that the command line answers at once.
"""

__version__ = "0.1.0"
