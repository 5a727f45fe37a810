import copy

import numpy as np
import torch

from dfqsam.export.census import kernels
from dfqsam.export.graphs import DecoderGraph
from dfqsam.export.parity import decoder_dice
from dfqsam.export.trace import export_decoder
from dfqsam.quant.decoder import decoder_linears, quantize_decoder
from dfqsam.quant.layers import QuantizedLinear, require_on_grid
from dfqsam.quant.rounding import round_weights
from dfqsam.synth.shapes import shapes
from tests.small_sam import tiny_sam


def test_the_transformer_computes_on_integers_and_gives_nearly_the_same_masks():
    sam = tiny_sam()
    with torch.no_grad():
        embeddings = [sam.encoder(sam.normalise(picture[None])) for picture in shapes(3, 64, 0)]
    before = copy.deepcopy(sam.mask_decoder.state_dict())
    names, calls = decoder_linears(sam.mask_decoder), []
    decoder = quantize_decoder(sam.prompter, embeddings, 1 << 16, advance=lambda: calls.append(1))
    assert len(calls) == len(names) > 20
    assert all(isinstance(decoder.get_submodule(name), QuantizedLinear) for name in names)
    assert not any(isinstance(module, QuantizedLinear) for module in sam.mask_decoder.modules())
    assert all(torch.equal(value, before[name]) for name, value in sam.mask_decoder.state_dict().items())
    require_on_grid(decoder)

    prompts = sam.prompter.draw(4, torch.Generator().manual_seed(7))
    true = sam.prompter.ask(embeddings[0], prompts).logits
    found = copy.copy(sam)
    found.mask_decoder = decoder
    wrong = found.prompter.ask(embeddings[0], prompts).logits - true
    assert 0 < float(wrong.norm() / true.norm()) < 0.1

    round_weights(decoder)
    model = export_decoder(DecoderGraph(sam.prompt_encoder, decoder), sam.grid)
    assert set(kernels(model.SerializeToString(), "mask_decoder.").values()) == {"MatMulIntegerToFloat"}
    embedding = np.asarray(embeddings[1])
    assert decoder_dice(model, DecoderGraph(sam.prompt_encoder, decoder), (embedding, embedding), seed=0) > 0.99
