"""pFedHN-PC: the extractor comes from the hypernetwork, the head stays on the client."""

from __future__ import annotations

import torch
from tiny import (
    SMALL,
    backward,
    close,
    message,
    module,
    put,
    rng,
    rows,
    same,
    take,
)

from fedbench.local import SGD
from fedbench.methods.pfedhn import PFedHN
from fedbench.methods.pfedhn_pc import PFedHNPC
from fedbench.task import Task


def test_pc_clips_the_extractor_only_and_the_head_keeps_its_momentum(task: Task) -> None:
    """Three visits against the released client: a new SGD for the extractor at each visit, one for ever for the head.

    Both step on the gradient of one backward pass, of which only the extractor's part is clipped (and here it is).
    """
    sgd = SGD(lr=0.1, weight_decay=1e-2, max_norm=0.05)
    method = PFedHNPC(task=task, local=sgd, hypernetwork=SMALL)
    server = method.server_init(rng())
    sent = message(method, server, 1)
    state = method.client_init({}, rng(7))
    net = module(task)
    put(net, {name: {**sent, **state}[name] for name in task.network.shapes})
    *extractor, weight, bias = net.parameters()
    head = torch.optim.SGD([weight, bias], sgd.lr, sgd.momentum, weight_decay=sgd.weight_decay)
    for visit in range(3):
        put(net, {**sent, **{name: state[name] for name in task.head}})
        inner = torch.optim.SGD(extractor, sgd.lr, sgd.momentum, weight_decay=sgd.weight_decay)
        upload, state = method.client_train(sent, state, rows(3, 1, seed=visit))
        for index in rows(3, 1, seed=visit):
            net.zero_grad()
            backward(net, task, index)
            assert float(torch.nn.utils.clip_grad_norm_(extractor, sgd.max_norm)) > sgd.max_norm
            inner.step()
            head.step()
        trained = take(net, task)
        close(upload, {name: sent[name] - trained[name] for name in task.body})
        buffers = [head.state[p]["momentum_buffer"] for p in (weight, bias)]
        kept = {name: trained[name] for name in task.head}
        kept |= {f"momentum.{name}": buffer for name, buffer in zip(task.head, buffers, strict=True)}
        close(state, kept)
    assert float(state[f"momentum.{task.head[0]}"].abs().max()) > 0


def test_pc_personal_model_is_the_extractor_and_the_own_head(task: Task) -> None:
    method = PFedHNPC(task=task, hypernetwork=SMALL)
    server = method.server_init(rng())
    assert server["phi"].keys() == PFedHN(task=task, hypernetwork=SMALL).server_init(rng())["phi"].keys() - {
        f"head.{name}.{kind}" for name in task.head for kind in ("weight", "bias")
    }
    state, sent = method.client_init({}, rng(7)), message(method, server, 0)
    same(
        method.client_personalize(sent, state, rows(1)),
        {**sent, **{name: state[name] for name in task.head}},
    )
