"""A model's weights as NumPy arrays, prepared for sampling on a CPU: what doesn't depend on the text is folded in."""

from __future__ import annotations

import math

import numpy as np

from ..model import GPT

F32 = np.float32
WIDE = 256  # from this width on, calling a library takes little of the time of a product
MOST = 1024  # tokens of the vocabulary for which the first layer is computed in advance


class Weights:
    """A model's weights prepared for decoding: matrices are (in, out) and C-contiguous, and constants are folded in.

    - LayerNorm's gain and bias are folded into the following matrix. Its mean disappears, too: the embeddings and
      everything a layer adds are centered here once, so the residual path always has mean zero, and LayerNorm becomes
      RMS norm.
    - RMS norm divides by sqrt(sum / C); the factor sqrt(C) is folded into the following matrix.
    - A bias becomes an extra row of its matrix, which is multiplied by a 1 at the end of the input.
    - Attention's 1 / sqrt(hs) is folded into the queries.
    - The two numbers of a rotated pair are stored side by side, so that a rotation is one complex product.
    - With rotary positions, the first layer's queries, keys and values of each token are known before any text is.

    The layout's features decide which of these apply.
    """

    def __init__(self, model: GPT):
        c = model.config
        layout = self.layout = c.features
        self.nh, self.hs = c.n_head, c.n_embd // c.n_head
        self.narrow = c.n_embd < WIDE
        self.bias_rows = layout.biases or not layout.plain_norms
        self.eps = F32(c.n_embd * (1e-6 if layout.plain_norms else 1e-5))
        # QK norm: the decoder scales q and k to length 1, but their product should be sqrt(hs) times that
        self.scale, self.qk_eps = self.hs**0.25 if layout.qk_norm else 1.0, F32(self.hs * 1e-6)
        self.embed(model)
        *inner, self.head = side_by_side(  # head: (C + 1, vocab_size), or (C, vocab_size) without bias rows
            [W for block in model.blocks for W in self.layer(block)] + [self.after_norm(model.lm_head, model.ln_f)]
        )
        self.layers = [inner[i : i + 4] for i in range(0, len(inner), 4)]
        self.idle = [not down.any() for *_, down in self.layers]  # feed-forward layers left out, as 0
        # so that neither the weights of attention, exp(score), nor their products with values overflow or vanish
        self.bounded = [self.highest_score(qkv) < 60 for qkv, *_ in self.layers]
        self.first = self.first_layer()

    def embed(self, model: GPT) -> None:
        """Prepare the embeddings of tokens, and those of positions or the angles by which these rotate."""
        layout = self.layout
        self.wte = self.added(array(model.token_embedding_table.weight))  # (vocab_size, C)
        if layout.rotary:
            if layout.plain_norms:  # the norm after the embedding
                self.wte = self.wte / np.sqrt((self.wte**2).mean(axis=1, keepdims=True) + F32(1e-6))
            cos, sin = array(model.rotary).astype(np.float64)  # (block_size, hs / 2) each
            self.turn = ((cos - 1j * sin) * self.scale).astype(np.complex64)
        else:
            self.wpe = self.added(array(model.position_embedding_table.weight))  # (block_size, C)

    def first_layer(self) -> np.ndarray | None:
        """Return the first layer's queries, keys and values of each token, (vocab_size, 3C), if they never change.

        With rotary positions they don't, because the layer's input is nothing but the token's embedding. With learned
        ones it would take a table of all tokens at all positions. Return None then, and for large vocabularies.
        """
        if not self.layout.rotary or len(self.wte) > MOST:
            return None
        return self.sized(self.normed(self.wte) @ self.layers[0][0])

    def layer(self, block) -> tuple[np.ndarray, ...]:
        """Return a block's matrices (qkv, proj, MLP up and down), each (in + 1, out), or (in, out) without biases."""
        C = self.nh * self.hs
        qkv = self.after_norm(block.sa.qkv, block.ln1)
        if not self.layout.qk_norm:
            qkv[:, :C] *= F32(self.hs**-0.5)
        if self.layout.rotary:  # a pair's numbers are hs / 2 apart; put them side by side
            halves = qkv[:, : 2 * C].reshape(-1, 2 * self.nh, 2, self.hs // 2)
            qkv[:, : 2 * C] = halves.swapaxes(2, 3).reshape(-1, 2 * C)
        up = self.after_norm(block.ffwd.net[0], block.ln2)
        return qkv, self.matrix(block.sa.proj), up, self.matrix(block.ffwd.net[2])

    def after_norm(self, linear, norm) -> np.ndarray:
        """Return the matrix after a norm, with the norm's constants folded in: only dividing by |x| is left to do."""
        W, b = array(linear.weight).T * F32(math.sqrt(linear.in_features)), self.bias(linear)  # (in, out), (out,)
        if not self.layout.plain_norms:
            W, b = array(norm.weight)[:, None] * W, array(norm.bias) @ array(linear.weight).T + b
        return np.vstack([W, b]) if self.bias_rows else np.ascontiguousarray(W)

    def matrix(self, linear) -> np.ndarray:
        """Return a matrix whose output is added to the residual path."""
        W = array(linear.weight).T
        return self.added(np.vstack([W, self.bias(linear)]) if self.bias_rows else np.ascontiguousarray(W))

    def highest_score(self, qkv: np.ndarray) -> float:
        """Return a bound on the attention scores of a layer, positive or negative, whatever its input.

        The input has at most length 1, so a query is no longer than the spectral norm of its matrix plus its bias.
        """
        if self.layout.qk_norm:
            return self.hs**0.5
        C = self.nh * self.hs
        longest = []
        for part in (qkv[:, :C], qkv[:, C : 2 * C]):  # queries, keys
            heads = part.reshape(-1, self.nh, self.hs).swapaxes(0, 1)  # (nh, C or C + 1, hs)
            bias = np.linalg.norm(heads[:, C:], axis=(1, 2))  # (nh,)
            grams = heads[:, :C].swapaxes(1, 2) @ heads[:, :C]  # (nh, hs, hs)
            if not np.isfinite(grams).all():  # a damaged model
                return math.inf
            large = self.hs > 128  # then eigenvalues take long, and the norm of the Gram matrix is a bound, too
            squares = np.linalg.norm(grams, axis=(1, 2)) if large else np.linalg.eigvalsh(grams)[:, -1].clip(0)
            longest.append(np.sqrt(squares) + bias)
        return float((longest[0] * longest[1]).max())

    def normed(self, x: np.ndarray) -> np.ndarray:
        """Return rows divided by their lengths, followed by a 1 if there are bias rows: (N, C) -> (N, C or C + 1)."""
        return self.with_one(x / np.sqrt(np.vecdot(x, x) + self.eps)[..., None])

    def with_one(self, x: np.ndarray) -> np.ndarray:
        """Return rows followed by a 1, which multiplies the bias row; or just the rows, if there are no biases."""
        return np.concatenate([x, np.ones((*x.shape[:-1], 1), F32)], axis=-1) if self.bias_rows else x

    def sized(self, qkv: np.ndarray) -> np.ndarray:
        """Normalize the queries and keys in `qkv` (..., 3C) in place, if the layout does. Return it."""
        if self.layout.qk_norm:
            qk = qkv.reshape(*qkv.shape[:-1], 3, self.nh, self.hs)[..., :2, :, :]
            qk /= np.sqrt(np.vecdot(qk, qk) + self.qk_eps)[..., None]
            if not self.layout.rotary:  # with rotary positions, `turn` includes the scale
                qk *= F32(self.scale)
        return qkv

    def bias(self, linear) -> np.ndarray:
        """Return the bias of a linear layer, (out,), or zeros if it has none."""
        return np.zeros(linear.out_features, F32) if linear.bias is None else array(linear.bias)

    def added(self, W: np.ndarray) -> np.ndarray:
        """Return a matrix whose rows are added to the residual path, centered if LayerNorm would subtract the mean."""
        return W if self.layout.plain_norms else centered(W)


def array(tensor) -> np.ndarray:
    return tensor.detach().float().cpu().numpy()


def centered(W: np.ndarray) -> np.ndarray:
    """Subtract the mean from each row."""
    return W - W.mean(axis=1, keepdims=True, dtype=np.float64).astype(F32)


def side_by_side(matrices: list[np.ndarray]) -> list[np.ndarray]:
    """Copy the matrices into one block of memory, each starting at a cache line.

    NumPy asks Linux for huge pages if a block has 4 MB or more: reading 42 MB of weights then takes a fifth less time.
    """
    line = 16  # floats
    sizes = [-(-W.size // line) * line for W in matrices]
    memory = np.empty(sum(sizes) + line, F32)
    place = -memory.ctypes.data // 4 % line
    packed = []
    for W, size in zip(matrices, sizes):
        packed.append(memory[place : place + W.size].reshape(W.shape))
        packed[-1][...] = W
        place += size
    return packed
