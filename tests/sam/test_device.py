import pytest
import torch
from torch import nn

from dfqsam.sam.device import computing_on, device_of


class Moving(nn.Linear):
    """Writes down where it is sent."""

    def __init__(self) -> None:
        super().__init__(2, 2)
        self.places = []

    def to(self, place):
        self.places.append(str(place))
        return self


def test_modules_go_where_they_are_sent_and_come_back():
    modules = [Moving(), Moving()]
    with computing_on(modules, torch.device("meta")) as device:
        assert device == torch.device("meta")
        assert [module.places for module in modules] == [["meta"], ["meta"]]
    assert [module.places for module in modules] == [["meta", "cpu"], ["meta", "cpu"]]


def test_they_come_back_when_the_block_fails():
    module = Moving()
    with pytest.raises(ValueError, match="stop"), computing_on([module], torch.device("meta"), tf32=True):
        raise ValueError("stop")
    assert module.places == ["meta", "cpu"]


def test_without_a_gpu_they_stay_where_they_are(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with computing_on([nn.Linear(2, 2, device="meta")]) as device:
        assert device == torch.device("meta")


@pytest.mark.parametrize(("tf32", "precision"), [(True, "high"), (False, "highest")])
def test_a_gpu_is_taken_where_there_is_one_and_rounds_products_only_when_told(monkeypatch, tf32, precision):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    module = Moving()
    with computing_on([module], tf32=tf32) as device:
        assert device == torch.device("cuda")
        assert torch.get_float32_matmul_precision() == precision
    assert torch.get_float32_matmul_precision() == "highest"
    assert module.places == ["cuda", "cpu"]


def test_where_a_module_is_its_parameters_or_buffers_say():
    norm = nn.BatchNorm2d(2, affine=False, device="meta")
    assert device_of(nn.Linear(2, 2, device="meta")) == device_of(norm) == torch.device("meta")
    assert device_of(nn.GELU()) == torch.device("cpu")
