"""The program of the lecture "let's build GPT", from the bigram model to the GPT: `python -m nanogpt.lecture FILE`.

Read it from top to bottom, in the order it was typed: text, batch, loss, one model after another, then the loop.
`STAGES` is the ladder: every stage trains on the same text from the same seed, so that the losses show what each idea
is worth. Nothing here is optimized; model.py is, and its tests compare it with this file.
"""

import time
from dataclasses import dataclass

import torch
import torch.nn as nn
from torch.nn import functional as F

from .config import NanoGPTError
from .demo import text_of_argument
from .holdout import train_length
from .ladder import check_length, check_table, print_event

# ---- The text, as integers -------------------------------------------------------------------------------------------


class Vocabulary:
    """The unique characters of a text, sorted. A character's id is its index."""

    def __init__(self, text):
        self.chars = sorted(set(text))
        self.stoi = {ch: i for i, ch in enumerate(self.chars)}
        self.itos = {i: ch for i, ch in enumerate(self.chars)}

    def encode(self, s):
        return [self.stoi[c] for c in s]

    def decode(self, l):
        return "".join(self.itos[i] for i in l)


def get_batch(data, block_size, batch_size, generator=None, device="cpu"):
    """Return random windows of the text (B, T), and the same windows shifted by one character: the targets (B, T)."""
    # A window may start anywhere, as long as one more character follows it for the end of yb.
    ix = torch.randint(len(data) - block_size, (batch_size,), generator=generator)
    xb = torch.stack([data[i : i + block_size] for i in ix])  # (B, T)
    yb = torch.stack([data[i + 1 : i + block_size + 1] for i in ix])  # (B, T)
    # A row is T examples, not one: predict after 1 character, after 2, ... after T. So generate can start from 1.
    return xb.to(device), yb.to(device)


@torch.no_grad()
def estimate_loss(model, data, stage, device="cpu", seed=1337):
    """Return the mean train and val loss over many batches, because a single batch is too noisy to show progress."""
    # A separate generator with a fixed seed: every estimate uses the same windows, and evaluating more often doesn't
    # change the training batches.
    generator = torch.Generator().manual_seed(seed)
    out = {}
    model.eval()  # no dropout
    for name in ("train", "val"):
        losses = torch.zeros(stage.eval_iters)
        for k in range(stage.eval_iters):
            xb, yb = get_batch(data[name], stage.block_size, stage.batch_size, generator, device)
            _, loss = model(xb, yb)
            losses[k] = loss.item()
        out[name] = losses.mean().item()
    model.train()
    return out


# ---- Stage 1: the bigram model ---------------------------------------------------------------------------------------


class LanguageModel(nn.Module):
    """The base of all stages: the loss and text generation, which stay the same."""

    def __init__(self, sizes):
        super().__init__()
        self.block_size, self.dropout = sizes.block_size, sizes.dropout
        self.n_layer, self.n_head, self.n_embd = sizes.n_layer, sizes.n_head, sizes.n_embd

    def forward(self, idx, targets=None):
        logits = self.logits(idx)  # (B, T, vocab_size)
        if targets is None:
            return logits, None
        B, T, C = logits.shape
        # cross_entropy wants (N, C), so B rows of T characters become B*T predictions.
        loss = F.cross_entropy(logits.view(B * T, C), targets.view(B * T))
        return logits, loss

    @torch.no_grad()
    def generate(self, idx, max_new_tokens, generator=None):
        """Continue `idx` (B, T) by `max_new_tokens` characters, one at a time: (B, T + max_new_tokens)."""
        for _ in range(max_new_tokens):
            # There is no position beyond block_size, so crop the context.
            idx_cond = idx[:, -self.block_size :]  # (B, T)
            logits, _ = self(idx_cond)  # (B, T, vocab_size)
            logits = logits[:, -1, :]  # (B, vocab_size)   only the last position predicts a new character
            probs = F.softmax(logits, dim=-1)  # (B, vocab_size)
            # Sample. Always picking the likeliest character soon ends in a loop.
            idx_next = torch.multinomial(probs, num_samples=1, generator=generator)  # (B, 1)
            idx = torch.cat((idx, idx_next), dim=1)  # (B, T+1)
        return idx


class Bigram(LanguageModel):
    """Stage 1: each character looks up in a table what comes next, and sees no other character."""

    def __init__(self, sizes, vocab_size):
        super().__init__(sizes)
        self.token_embedding_table = nn.Embedding(vocab_size, vocab_size)

    def logits(self, idx):
        return self.token_embedding_table(idx)  # (B, T, vocab_size)


# ---- Stages 2, 3, 4: the characters talk to each other, through several heads, and then compute ----------------------


class Head(nn.Module):
    """One head of self-attention: a weighted average over the past, where each character chooses the weights."""

    def __init__(self, n_embd, head_size, block_size, dropout=0.0):
        super().__init__()
        self.key = nn.Linear(n_embd, head_size, bias=False)
        self.query = nn.Linear(n_embd, head_size, bias=False)
        self.value = nn.Linear(n_embd, head_size, bias=False)
        # A buffer, not a parameter: it isn't trained, but it must move to the GPU with the model.
        self.register_buffer("tril", torch.tril(torch.ones(block_size, block_size)))
        self.dropout = nn.Dropout(dropout)

    def forward(self, x):
        B, T, C = x.shape
        k = self.key(x)  # (B, T, hs)   what I have
        q = self.query(x)  # (B, T, hs)   what I am looking for
        # Scale by the head size. Otherwise wide heads start with large scores, softmax puts all its weight on one
        # character, and the others get no gradient.
        wei = q @ k.transpose(-2, -1) * k.shape[-1] ** -0.5  # (B, T, hs) @ (B, hs, T) -> (B, T, T)
        # No looking ahead: the future holds the answers. If all scores were zero, the next two lines would compute the
        # plain average of the past, the "bag of words" that the lecture starts with.
        wei = wei.masked_fill(self.tril[:T, :T] == 0, float("-inf"))  # (B, T, T)
        wei = F.softmax(wei, dim=-1)  # (B, T, T)
        wei = self.dropout(wei)  # (B, T, T)   cut some connections, so that no character relies on a single other one
        v = self.value(x)  # (B, T, hs)   what I communicate if you attend to me
        return wei @ v  # (B, T, T) @ (B, T, hs) -> (B, T, hs)


class OneHead(LanguageModel):
    """Stage 2: a character is an embedding of n_embd numbers, knows its position, and attends to those before it."""

    def __init__(self, sizes, vocab_size):
        super().__init__(sizes)
        self.token_embedding_table = nn.Embedding(vocab_size, self.n_embd)
        # Attention sees a set, not a sequence: without positions, a character has no notion of "just before me".
        self.position_embedding_table = nn.Embedding(self.block_size, self.n_embd)
        self.sa = Head(self.n_embd, self.n_embd, self.block_size)
        self.lm_head = nn.Linear(self.n_embd, vocab_size, bias=False)

    def logits(self, idx):
        B, T = idx.shape
        tok_emb = self.token_embedding_table(idx)  # (B, T, C)
        pos_emb = self.position_embedding_table(torch.arange(T, device=idx.device))  # (T, C)
        x = self.middle(tok_emb + pos_emb)  # (B, T, C)
        return self.lm_head(x)  # (B, T, vocab_size)

    def middle(self, x):
        return self.sa(x)  # (B, T, C)


class ManyHeads(OneHead):
    """Stage 3: four narrow heads for the cost of a wide one, because there is more than one thing to ask the past."""

    def __init__(self, sizes, vocab_size):
        super().__init__(sizes, vocab_size)
        head_size = self.n_embd // self.n_head
        self.sa = nn.ModuleList([Head(self.n_embd, head_size, self.block_size) for _ in range(self.n_head)])

    def middle(self, x):
        return torch.cat([head(x) for head in self.sa], dim=-1)  # (B, T, C)


class Thinking(ManyHeads):
    """Stage 4: after attention, each character thinks on its own before it makes a prediction."""

    def __init__(self, sizes, vocab_size):
        super().__init__(sizes, vocab_size)
        self.ffwd = nn.Sequential(nn.Linear(self.n_embd, self.n_embd), nn.ReLU())

    def middle(self, x):
        return self.ffwd(super().middle(x))  # (B, T, C)


# ---- Stages 5, 6, 7: attention and feed-forward become a block, and blocks are stacked -------------------------------


class MultiHeadAttention(nn.Module):
    """Stage 3's heads, plus a projection back into the residual path."""

    def __init__(self, n_embd, n_head, block_size, dropout=0.0):
        super().__init__()
        head_size = n_embd // n_head
        self.heads = nn.ModuleList([Head(n_embd, head_size, block_size, dropout) for _ in range(n_head)])
        self.proj = nn.Linear(n_head * head_size, n_embd)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x):
        out = torch.cat([head(x) for head in self.heads], dim=-1)  # (B, T, C)
        return self.dropout(self.proj(out))  # (B, T, C)


class FeedForward(nn.Module):
    """Stage 4's feed-forward layer, four times as wide inside, plus a projection back into the residual path."""

    def __init__(self, n_embd, dropout=0.0):
        super().__init__()
        self.net = nn.Sequential(
            nn.Linear(n_embd, 4 * n_embd),  # four times as wide inside, as in the paper
            nn.ReLU(),
            nn.Linear(4 * n_embd, n_embd),
            nn.Dropout(dropout),
        )

    def forward(self, x):
        return self.net(x)  # (B, T, C)


class Block(nn.Module):
    """A Transformer block: communication, then computation."""

    def __init__(self, n_embd, n_head, block_size, dropout=0.0, norm=nn.LayerNorm):
        super().__init__()
        self.sa = MultiHeadAttention(n_embd, n_head, block_size, dropout)
        self.ffwd = FeedForward(n_embd, dropout)
        self.ln1 = norm(n_embd)
        self.ln2 = norm(n_embd)

    def forward(self, x):
        # A sum passes the gradient through unchanged, so x is a highway from the loss to the first layer, and attention
        # and feed-forward branch off it. Each branch starts with a norm. (The paper puts the norms after the sum.)
        x = x + self.sa(self.ln1(x))  # (B, T, C)
        x = x + self.ffwd(self.ln2(x))  # (B, T, C)
        return x


class GPT(LanguageModel):
    """Stages 6 and 7: the GPT. `sizes` is a Stage, or has its block_size, n_layer, n_head, n_embd and dropout."""

    norm = nn.LayerNorm

    def __init__(self, sizes, vocab_size):
        super().__init__(sizes)
        self.token_embedding_table = nn.Embedding(vocab_size, self.n_embd)
        self.position_embedding_table = nn.Embedding(self.block_size, self.n_embd)
        block = lambda: Block(self.n_embd, self.n_head, self.block_size, self.dropout, self.norm)
        self.blocks = nn.Sequential(*[block() for _ in range(self.n_layer)])
        self.ln_f = self.norm(self.n_embd)
        # THE departure from the lecture: no bias here. GPT-2 has none, and our models are saved as a GPT-2.
        self.lm_head = nn.Linear(self.n_embd, vocab_size, bias=False)

    def logits(self, idx):
        B, T = idx.shape
        tok_emb = self.token_embedding_table(idx)  # (B, T, C)
        pos_emb = self.position_embedding_table(torch.arange(T, device=idx.device))  # (T, C)
        x = tok_emb + pos_emb  # (B, T, C)
        x = self.blocks(x)  # (B, T, C)
        x = self.ln_f(x)  # (B, T, C)
        return self.lm_head(x)  # (B, T, vocab_size)


class Residual(GPT):
    """Stage 5: the blocks, before layer norm is added."""

    norm = nn.Identity


# ---- The ladder ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Stage:
    """The settings of one stage. The defaults are the lecture's for stages 5 and 6."""

    number: int = 0
    name: str = ""
    model: type = GPT
    lecture_loss: str = ""  # validation loss in the lecture, or as reproduced by people who followed it
    batch_size: int = 32  # sequences per batch
    block_size: int = 8  # context length in characters
    n_embd: int = 32
    n_head: int = 4
    n_layer: int = 3
    dropout: float = 0.0
    learning_rate: float = 1e-3
    max_iters: int = 5000
    eval_interval: int = 500
    eval_iters: int = 200
    needs_gpu: bool = False


LADDER = (
    Stage(1, "bigram model", Bigram, "2.49", 32, 8, 0, 0, 0, learning_rate=1e-2, max_iters=3000, eval_interval=300),
    Stage(2, "one head of self-attention", OneHead, "2.4-2.5", n_head=1, n_layer=1),
    Stage(3, "several heads", ManyHeads, "2.28", n_layer=1),
    Stage(4, "and feed-forward", Thinking, "2.24-2.27", n_layer=1),
    Stage(5, "blocks with residual connections", Residual, "2.08-2.09"),
    Stage(6, "and layer norm", GPT, "2.06-2.08"),
    Stage(7, "scaled up, with dropout", GPT, "1.48", 64, 256, 384, 6, 6, 0.2, learning_rate=3e-4, needs_gpu=True),
)
STAGES = {stage.number: stage for stage in LADDER}
SKIPPED = f"""Skipped stage 7 ({STAGES[7].name}), which is for a GPU. \
It takes about 16 hours on two CPU cores; the lecture's A100 took 15 minutes.
To train it, run `python -m nanogpt ladder FILE --stage 7`."""


def read(text, stage):
    """Return the vocabulary of a text, and its ids split into {"train": first nine tenths, "val": the rest}.

    Raise NanoGPTError if the text is too short for the stage.
    """
    check_length(text, stage)
    vocabulary = Vocabulary(text)
    data = torch.tensor(vocabulary.encode(text), dtype=torch.long)
    n = train_length(len(data))
    return vocabulary, {"train": data[:n], "val": data[n:]}


def train_stage(text, stage, device="cpu", seed=1337, max_iters=None):
    """Train one stage. Yield a dict per evaluation; the last one also has `parameters`, `seconds` and a `sample`."""
    max_iters = stage.max_iters if max_iters is None else max_iters
    if max_iters < 0:
        raise NanoGPTError(f"max_iters was {max_iters}; it must be 0 or more.")
    vocabulary, data = read(text, stage)
    if stage.model is Bigram:
        check_table(len(vocabulary.chars))
    torch.manual_seed(seed)
    start = time.perf_counter()
    model = stage.model(stage, len(vocabulary.chars)).to(device)
    optimizer = torch.optim.AdamW(model.parameters(), lr=stage.learning_rate)

    for step in range(max_iters + 1):
        # every once in a while, and at the end, evaluate the loss on train and val sets
        if step % stage.eval_interval == 0 or step == max_iters:
            losses = estimate_loss(model, data, stage, device, seed)
            event = {"stage": stage.number, "step": step, "train_loss": losses["train"], "val_loss": losses["val"]}
            if step == max_iters:
                break
            yield event

        xb, yb = get_batch(data["train"], stage.block_size, stage.batch_size, device=device)  # (B, T), (B, T)
        _, loss = model(xb, yb)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()

    event["seconds"] = time.perf_counter() - start
    event["parameters"] = sum(p.numel() for p in model.parameters())
    model.eval()  # the lecture samples with dropout still on, which only makes the text worse
    context = torch.zeros((1, 1), dtype=torch.long, device=device)  # start from character 0, usually the newline
    idx = model.generate(context, 300, torch.Generator(device).manual_seed(seed))  # (1, 1 + 300)
    yield event | {"sample": vocabulary.decode(idx[0, 1:].tolist())}


def stages_for(device):
    """Return the stages that are practical on this device: without a GPU, all but the big one."""
    return [stage for stage in LADDER if not stage.needs_gpu or torch.device(device).type != "cpu"]


def ladder(text, stages=None, device="cpu", seed=1337, max_iters=None):
    """Train one stage after another. Yield the events of each."""
    for stage in stages_for(device) if stages is None else stages:
        yield from train_stage(text, stage, device, seed, max_iters)


def print_ladder(text, stage_number=None, device="cpu", max_iters=None, seed=1337):
    """Train one stage, or the whole ladder, and print one line per evaluation, the final losses and a sample."""
    stages = stages_for(device) if stage_number is None else [STAGES[stage_number]]
    for event in ladder(text, stages, device, seed, max_iters):
        stage = STAGES[event["stage"]]
        print_event(event, stage.name, f"the lecture's loss on Tiny Shakespeare: {stage.lecture_loss}")
    if len(stages) < len(LADDER) and stage_number is None:
        print(SKIPPED)


if __name__ == "__main__":
    with text_of_argument() as text:
        print_ladder(text)
