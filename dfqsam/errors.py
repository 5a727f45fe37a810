"""The exceptions a user sees. Each message is one sentence: what is wrong, where, and what to do."""


class DfqsamError(Exception):
    """Base of every error that is the caller's to mend; the command line prints it and exits with code 2."""


class InputError(DfqsamError):
    """A file, prompt or option that cannot be used."""


class CheckpointError(DfqsamError):
    """A checkpoint that is damaged, unsafe or of another model."""


class BundleError(DfqsamError):
    """A bundle that is incomplete, altered or made for something else."""


class ParityError(DfqsamError):
    """An exported graph that does not compute what the model computes."""


class ChainError(DfqsamError):
    """A log whose entries were altered, removed, moved or added to behind its back."""
