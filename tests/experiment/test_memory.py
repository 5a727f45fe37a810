import ctypes

import torch

from dfqsam.memory import keep_freed_memory, return_freed_memory


def test_memory_is_kept_or_returned_without_a_word_and_nothing_happens_elsewhere(monkeypatch, capfd):
    keep_freed_memory()
    return_freed_memory()
    assert float(torch.ones(1 << 20).sum()) == 1 << 20

    class Elsewhere:
        pass

    monkeypatch.setattr(ctypes, "CDLL", lambda _name: Elsewhere())
    keep_freed_memory()
    return_freed_memory()

    def missing(_name):
        raise OSError

    monkeypatch.setattr(ctypes, "CDLL", missing)
    keep_freed_memory()
    return_freed_memory()
    assert capfd.readouterr() == ("", "")
