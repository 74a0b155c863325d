"""Small faults, put one at a time into what computes the prompts and the text features: do the tests notice each?

    python tests/mutants.py                    # every mutant of every file below
    python tests/mutants.py towers/causal towers/packing     # of some files
    python tests/mutants.py --equivalent       # also those that are known to change no number

Each mutant changes one operator, number, bound or order of arguments. Tests are collected once; a process is forked for
each mutant, which replaces the functions and runs the tests that call the one concerned, fastest first, until one
fails. Mutants that change no number stand in `EQUIVALENT` with the reason. They are left out, because each would run all of
its tests. Ends with an error if another one survives, or runs longer than its tests together may.
"""

# ruff: noqa: E501  (the keys of EQUIVALENT are lines of code)
from __future__ import annotations

import argparse
import ast
import importlib
import os
import resource
import signal
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from types import CodeType, FunctionType, ModuleType
from typing import Any, NamedTuple

import pytest
from _pytest.runner import runtestprotocol

ROOT = Path(__file__).parents[1]
CPU_SECONDS = 600  # of one mutant: one that loops is noticed
TESTS = (
    "test_exactness.py",
    "test_prompts.py",
    "test_tokenization.py",
    "adapter/test_layer.py",
    "adapter/test_peft_model.py",
    "adapter/test_saving.py",
    "model/test_coca.py",
    "towers",
)
SLOW = ("compile", "vit_b_16")

# For each file: the classes and functions in it, or nothing for all of them.
TARGETS: dict[str, tuple[str, ...]] = {
    "prompts": (),
    "adapter/layer": ("PromptLayer.add", "PromptLayer.start_from", "PromptLayer.tower_prompts"),
    "model/prompted_towers": ("PromptedTowers._run_text_tower", "PromptedTowers._active_prompts"),
    "tokenization": (),
    "towers/token_ids": (),
    "towers/blocks": (),
    "towers/layers": (),
    "towers/bidirectional": (),
    "towers/causal": (),
    "towers/padded": (),
    "towers/packing": (),
    "towers/whole": (),
    "towers/open_clip_blocks": (),
    "towers/open_clip_ids": (),
    "towers/open_clip_text": (),
}

# "file scope: before -> after", and why it changes no number.
NEVER = "the resolved config of a method with a map always has a depth; the 0 is for the type checker"
STRICT = "both are always of the same length; strict says so to the reader"
ONE = "packed texts share one prefix, so there is one row"
EITHER = "both ways give the same numbers; which one runs decides the work alone"
SYMMETRIC = "the order of the two does not matter"
EQUIVALENT: dict[str, str] = {
    "prompts PromptTable.of: (text_layers, vision_layers) if proportional else (config.depth or 0, config.depth or 0) -> (text_layers, vision_layers) if proportional else (config.depth or 1, config.depth or 0)": NEVER,
    "prompts PromptTable.of: (text_layers, vision_layers) if proportional else (config.depth or 0, config.depth or 0) -> (text_layers, vision_layers) if proportional else (config.depth or -1, config.depth or 0)": NEVER,
    "prompts PromptTable.of: (text_layers, vision_layers) if proportional else (config.depth or 0, config.depth or 0) -> (text_layers, vision_layers) if proportional else (config.depth or 0, config.depth or 1)": NEVER,
    "prompts PromptTable.of: (text_layers, vision_layers) if proportional else (config.depth or 0, config.depth or 0) -> (text_layers, vision_layers) if proportional else (config.depth or 0, config.depth or -1)": NEVER,
    "prompts entering_prompts: True -> False": STRICT,
    "adapter/layer PromptLayer.add: torch.empty((k, int(n or 0), widths[tower]), dtype=torch.float32).normal_(std=0.02) -> torch.empty((k, int(n or 1), widths[tower]), dtype=torch.float32).normal_(std=0.02)": "a tower that learns has a number of prompts; the 0 is for the type checker",
    "adapter/layer PromptLayer.add: torch.empty((k, int(n or 0), widths[tower]), dtype=torch.float32).normal_(std=0.02) -> torch.empty((k, int(n or -1), widths[tower]), dtype=torch.float32).normal_(std=0.02)": "a tower that learns has a number of prompts; the 0 is for the type checker",
    "towers/padded Padded.attend_at_ends: attended = block.attend(q, self._keys(prefix_kv, kv), mask.unsqueeze(2)) -> attended = block.attend(q, self._keys(prefix_kv, kv), mask.unsqueeze(1))": "(c, 1, m) becomes (c, 1, 1, m) either way",
    "towers/layers is_carried: return prompts[i] is not None and i + 1 == fresh < len(prompts) -> return prompts[i] is not None and i + 1 == fresh <= len(prompts)": "prompts become tokens in the last layer too, whose outputs are not read: more work",
    "towers/causal _attended: p == 1 and (not block.dropout) -> p == 0 and (not block.dropout)": "attention of one token over itself gives its value: more work",
    "towers/packing in_rows: len(list(takewhile(lambda pair: pair[0] == pair[1], zip(previous, text, strict=False)))) -> len(list(takewhile(lambda pair: pair[0] == pair[1], zip(text, previous, strict=False))))": SYMMETRIC,
    "towers/open_clip_ids IdReader._pack: True -> False": STRICT,
    "towers/token_ids make_room: text.shape[1] > left and statistics is not None -> text.shape[1] >= left and statistics is not None": "nothing is dropped where there is just enough room",
    "tokenization content: row = ids[0, :int(filled(ids)[0])].tolist() -> row = ids[-1, :int(filled(ids)[0])].tolist()": "one text is one row",
    "tokenization content: row = ids[0, :int(filled(ids)[0])].tolist() -> row = ids[0, :int(filled(ids)[-1])].tolist()": "one text is one row",
    "tokenization content: around = empty[0, :int(filled(empty)[0])].tolist() -> around = empty[-1, :int(filled(empty)[0])].tolist()": "one text is one row",
    "tokenization content: around = empty[0, :int(filled(empty)[0])].tolist() -> around = empty[0, :int(filled(empty)[-1])].tolist()": "one text is one row",
    "tokenization content: start < min(len(row), len(around)) and row[start] == around[start] -> start < min(len(around), len(row)) and row[start] == around[start]": SYMMETRIC,
    "tokenization content: end < min(len(row), len(around)) - start and row[-1 - end] == around[-1 - end] -> end < min(len(around), len(row)) - start and row[-1 - end] == around[-1 - end]": SYMMETRIC,
    "towers/token_ids check_values: [text.amin(), text.amax(), filled(text).amax(), (text[:, 0] == text[0, 0]).all()] -> [text.amin(), text.amax(), filled(text).amax(), (text[:, 0] == text[-1, 0]).all()]": "all are equal to the last if they are to the first",
    "towers/bidirectional _attended_pooled: mask = _mask(block, seen, x.shape[1], kv.shape[3]) -> mask = _mask(block, seen, x.shape[2], kv.shape[3])": "rows beyond the tokens are cut off below",
    "towers/bidirectional _attended_pooled: mask = pick_pooled(rows.transpose(1, 2), pooled).transpose(1, 2) -> mask = pick_pooled(rows.transpose(1, 2), pooled).transpose(2, 1)": SYMMETRIC,
    "towers/bidirectional _attended_pooled: mask = pick_pooled(rows.transpose(1, 2), pooled).transpose(1, 2) -> mask = pick_pooled(rows.transpose(2, 1), pooled).transpose(1, 2)": SYMMETRIC,
    "towers/bidirectional pick_pooled: return x[:, :pooled] -> return x[:, :]": "towers that pool the first tokens take them of what comes: more work",
    "towers/bidirectional _mask: tokens = bias.shape[-1] -> tokens = bias.shape[-2]": "a bias between tokens is square",
    "towers/whole WholeBlock._added: return mask[0, 0] -> return mask[-1, 0]": "the first of one is the last",
    "towers/whole WholeBlock._added: return mask[0, 0] -> return mask[0, -1]": "the first of one is the last",
    "towers/open_clip_blocks OpenClipBlock.project: True -> False": STRICT,
    "towers/open_clip_text OpenClipTextTower.stands_for: return (self.transformer,) if self.reader.is_in_clip else (self.text, self.transformer) -> return (self.transformer,) if not self.reader.is_in_clip else (self.text, self.transformer)": "counts where models are sharded, tests/system/test_distributed.py",
    "towers/open_clip_ids IdReader.fit: ids = text[:, :statistics.last_end + 1] -> ids = text[:, :statistics.last_end + 2]": "a column more: more work",
    "towers/open_clip_ids IdReader.fit: seen is not None -> seen is None": "padding stays: more work",
    "towers/open_clip_ids IdReader.fit: statistics is not None -> statistics is None #2": "padding stays: more work",
    "towers/open_clip_ids IdReader.fit: valid = seen[:, 0, 0, :-1] -> valid = seen[:, 0, -1, :-1]": "the first of one is the last",
    "towers/blocks Block._project_with_prompt: prompt is None or is_recording() or batch * length < FEW_PROMPTS * prompt.shape[1] -> prompt is None or is_recording() or batch + length < FEW_PROMPTS * prompt.shape[1]": EITHER,
    "towers/blocks Block._project_with_prompt: prompt is None or is_recording() or batch * length < FEW_PROMPTS * prompt.shape[1] -> prompt is None or is_recording() or batch * length <= FEW_PROMPTS * prompt.shape[1]": EITHER,
    "towers/blocks Block._project_with_prompt: prompt is None or is_recording() or batch * length < FEW_PROMPTS * prompt.shape[1] -> prompt is None or is_recording() or batch * length < FEW_PROMPTS + prompt.shape[1]": EITHER,
    "towers/blocks Block._project_with_prompt: prompt is None or is_recording() or batch * length < FEW_PROMPTS * prompt.shape[1] -> prompt is None or is_recording() or batch * length < FEW_PROMPTS * prompt.shape[2]": EITHER,
    "towers/blocks Block._project_with_prompt: prompt is None or is_recording() or batch * length < FEW_PROMPTS * prompt.shape[1] -> prompt is None or is_recording() or batch * length < FEW_PROMPTS * prompt.shape[0]": EITHER,
    "towers/blocks join: return given[0] -> return given[-1]": "the first of one is the last",
    "towers/blocks _largest: if is_tracing() -> if not is_tracing()": "counts where models are traced, tests/system/test_tracing.py",
    "towers/blocks _largest: return reduce(torch.maximum, map(torch.as_tensor, sizes)) -> return reduce(map(torch.as_tensor, sizes), torch.maximum)": "counts where models are traced, tests/system/test_tracing.py",
    "towers/blocks _largest: return reduce(torch.maximum, map(torch.as_tensor, sizes)) -> return reduce(torch.maximum, map(sizes, torch.as_tensor))": "counts where models are traced, tests/system/test_tracing.py",
    "towers/bidirectional _last_layer: block.add_attention(read, _attended_pooled(block, read, x, prompt, seen, tokens, pooled)) -> block.add_attention(read, _attended_pooled(block, read, x, prompt, seen, pooled, tokens))": "a mask with a row for each query belongs to towers that pool the first tokens: their rows are cut off either way",
    "towers/causal _attended: others = layout.attend(block, q, join(prefix_kv, prompt_kv), kv) -> others = layout.attend(block, q, join(prompt_kv, prefix_kv), kv)": SYMMETRIC,
    "towers/causal _attended: return torch.cat([prefix, others.transpose(1, 2)], dim=1).transpose(1, 2) -> return torch.cat([prefix, others.transpose(1, 2)], dim=1).transpose(2, 1)": SYMMETRIC,
    "towers/causal _attended: return torch.cat([prefix, others.transpose(1, 2)], dim=1).transpose(1, 2) -> return torch.cat([prefix, others.transpose(2, 1)], dim=1).transpose(1, 2)": SYMMETRIC,
    "towers/causal _pooled_layer: attended = layout.attend_at_ends(block, block.q(x), join(prefix_kv, prompt_kv), kv) -> attended = layout.attend_at_ends(block, block.q(x), join(prompt_kv, prefix_kv), kv)": SYMMETRIC,
    "towers/packing Packed._mask: self._masks[name] = torch.where(seen, 0.0, float('-inf')).to(dtype) -> self._masks[name] = torch.where(seen, 1.0, float('-inf')).to(dtype)": "a constant added to all scores changes no softmax",
    "towers/packing Packed._mask: self._masks[name] = torch.where(seen, 0.0, float('-inf')).to(dtype) -> self._masks[name] = torch.where(seen, -1.0, float('-inf')).to(dtype)": "a constant added to all scores changes no softmax",
    "towers/packing pack: ends, text_places = ([0] * len(texts), [(0, 0)] * len(texts)) -> ends, text_places = ([1] * len(texts), [(0, 0)] * len(texts))": "all are written over",
    "towers/packing pack: ends, text_places = ([0] * len(texts), [(0, 0)] * len(texts)) -> ends, text_places = ([-1] * len(texts), [(0, 0)] * len(texts))": "all are written over",
    "towers/packing pack: ends, text_places = ([0] * len(texts), [(0, 0)] * len(texts)) -> ends, text_places = ([0] * len(texts), [(1, 0)] * len(texts))": "all are written over",
    "towers/packing pack: ends, text_places = ([0] * len(texts), [(0, 0)] * len(texts)) -> ends, text_places = ([0] * len(texts), [(-1, 0)] * len(texts))": "all are written over",
    "towers/packing pack: ends, text_places = ([0] * len(texts), [(0, 0)] * len(texts)) -> ends, text_places = ([0] * len(texts), [(0, 1)] * len(texts))": "all are written over",
    "towers/packing pack: ends, text_places = ([0] * len(texts), [(0, 0)] * len(texts)) -> ends, text_places = ([0] * len(texts), [(0, -1)] * len(texts))": "all are written over",
    "towers/packing let_sizes_change: if torch.compiler.is_compiling() -> if not torch.compiler.is_compiling()": "counts where models are compiled, tests/system/test_compile.py",
    "towers/packing let_sizes_change: texts if isinstance(texts, PackedTexts) else (texts,) -> texts if not isinstance(texts, PackedTexts) else (texts,)": "counts where models are compiled, tests/system/test_compile.py",
    "towers/packing pack: node = -1 -> node = -2": "any number that no node has",
    "towers/packing in_rows: most = max(ROW, *map(len, texts)) -> most = max(*map(len, texts), ROW)": SYMMETRIC,
    "towers/whole WholeBlocks.run: n != prompt.shape[1] -> n != prompt.shape[2]": "the mask is made again in each layer: more work",
    "towers/whole WholeBlocks.run: n != prompt.shape[1] -> n != prompt.shape[0]": "the mask is made again in each layer: more work",
    "towers/open_clip_ids IdReader.fit: key = ('seen', ids.shape[1], self.text.pad_id, self.text.correct_cls_mask) -> key = ('seen', ids.shape[0], self.text.pad_id, self.text.correct_cls_mask)": "columns that make room are padding, so the count is the same",
    "towers/open_clip_text OpenClipTextTower.pack: False -> True": "padding stays: more work",
    "towers/open_clip_ids IdReader.packed: statistics, columns = (texts.statistics, texts.ids.shape[1]) -> statistics, columns = (texts.statistics, texts.ids.shape[0])": "packed texts end at their end tokens, whatever padding follows",
    "towers/whole WholeBlocks.run: mask = _mask(seen, causal, before, n, x) -> mask = _mask(seen, before, causal, n, x)": "the mask is made again when the first prompt enters",
    "towers/open_clip_ids IdReader.fit: valid = seen[:, 0, 0, :-1] -> valid = seen[:, -1, 0, :-1]": "the first of one is the last",
    "towers/open_clip_text OpenClipTextTower.pack: texts = self.reader.fit(text, 0, with_tokens=False) -> texts = self.reader.fit(text, 1, with_tokens=False)": "texts are checked again beside the prompts, of which there is one at least",
    "towers/open_clip_text OpenClipTextTower.pack: texts = self.reader.fit(text, 0, with_tokens=False) -> texts = self.reader.fit(text, -1, with_tokens=False)": "texts are checked again beside the prompts, of which there is one at least",
    "towers/open_clip_text OpenClipTextTower._encode_packed: check_placed('text', text.ids, self.embedding.weight) -> check_placed('text', self.embedding.weight, text.ids)": "two places are compared, whichever comes first",
    "towers/open_clip_text OpenClipTextTower._run_causal: packed is not None and len(packed.ids) < texts.ids[:, 1:].numel() -> packed is not None and len(packed.ids) <= texts.ids[:, 1:].numel()": EITHER,
    "towers/open_clip_text OpenClipTextTower._run_causal: packed is not None and len(packed.ids) < texts.ids[:, 1:].numel() -> packed is not None and len(packed.ids) < texts.ids[:, :].numel()": EITHER,
    "towers/open_clip_text OpenClipTextTower._run_causal: packed is not None and len(packed.ids) < texts.ids[:, 1:].numel() -> packed is not None and len(packed.ids) < texts.ids[:, 2:].numel()": EITHER,
    "towers/open_clip_text OpenClipTextTower._run_causal: packed is not None and len(packed.ids) < texts.ids[:, 1:].numel() -> packed is not None and len(packed.ids) < texts.ids[:, 0:].numel()": EITHER,
    "towers/open_clip_text OpenClipTextTower._run_causal: self.embedding(ids[:1 if is_shared else None, :1]).to(position.dtype) + position[:1] -> self.embedding(ids[:, :1]).to(position.dtype) + position[:1]": "a first token that texts share is run for each of them: more work",
    "towers/open_clip_text OpenClipTextTower._run_causal: is_shared = texts.statistics is not None and texts.statistics.shared_start -> is_shared = texts.statistics is None and texts.statistics.shared_start": "a first token that texts share is run for each of them: more work",
}

OTHER_OPERATORS: dict[type[ast.AST], tuple[type[Any], ...]] = {
    ast.Lt: (ast.LtE,),
    ast.LtE: (ast.Lt,),
    ast.Gt: (ast.GtE,),
    ast.GtE: (ast.Gt,),
    ast.Eq: (ast.NotEq,),
    ast.NotEq: (ast.Eq,),
    ast.Is: (ast.IsNot,),
    ast.IsNot: (ast.Is,),
    ast.In: (ast.NotIn,),
    ast.NotIn: (ast.In,),
    ast.Add: (ast.Sub,),
    ast.Sub: (ast.Add,),
    ast.Mult: (ast.Add,),
    ast.FloorDiv: (ast.Mult,),
    ast.Mod: (ast.FloorDiv,),
    ast.Pow: (ast.Mult,),
    ast.BitAnd: (ast.BitOr,),
    ast.And: (ast.Or,),
    ast.Or: (ast.And,),
}


class Mutant(NamedTuple):
    module: str
    function: str
    line: int
    key: str
    code: CodeType


def changes(node: Any) -> Iterator[None]:
    """Changes a node in place in every way, and undoes each change before the next."""
    if isinstance(node, ast.Compare):
        for i, operator in enumerate(node.ops):
            for other in OTHER_OPERATORS.get(type(operator), ()):
                node.ops[i] = other()
                yield
            node.ops[i] = operator
    if isinstance(node, ast.BinOp | ast.BoolOp | ast.AugAssign):
        operator = node.op
        for other in OTHER_OPERATORS.get(type(operator), ()):
            node.op = other()
            yield
        node.op = operator
    if isinstance(node, ast.Constant) and isinstance(node.value, bool | int | float):
        value = node.value
        for other in [not value] if isinstance(value, bool) else [value + 1, value - 1]:
            node.value = other
            yield
        node.value = value
    if isinstance(node, ast.Slice):
        for bound in ("lower", "upper"):
            expression = getattr(node, bound)
            if expression is not None:
                setattr(node, bound, None)
                yield
                setattr(node, bound, expression)
    if isinstance(node, ast.Call):
        for i in range(len(node.args) - 1):
            if ast.dump(node.args[i]) == ast.dump(node.args[i + 1]):
                continue
            node.args[i], node.args[i + 1] = node.args[i + 1], node.args[i]
            yield
            node.args[i], node.args[i + 1] = node.args[i + 1], node.args[i]
    if isinstance(node, ast.If | ast.IfExp | ast.While) and not isinstance(node.test, ast.Compare | ast.BoolOp):
        condition = node.test
        node.test = condition.operand if isinstance(condition, ast.UnaryOp) else ast.UnaryOp(ast.Not(), condition)
        yield
        node.test = condition


def mutants(name: str) -> list[Mutant]:
    """All mutants of a file; errors' texts, assertions and annotations are left alone."""
    tree = ast.parse((ROOT / "vilt_prompt" / f"{name}.py").read_text())
    found: list[Mutant] = []
    seen: Counter[str] = Counter()

    def walk(node: ast.AST, scope: tuple[str, ...], parents: tuple[ast.AST, ...]) -> None:
        if isinstance(node, ast.Raise | ast.Assert | ast.Import | ast.ImportFrom):
            return
        if isinstance(node, ast.ClassDef | ast.FunctionDef):
            scope = (*scope, node.name)
        wanted = any(".".join(scope[: part.count(".") + 1]) == part for part in TARGETS[name]) or not TARGETS[name]
        if wanted and scope:
            shown = node
            for parent in reversed(parents):
                if (
                    isinstance(parent, ast.expr | ast.Assign | ast.AugAssign | ast.Return)
                    and len(ast.unparse(parent)) < 90
                ):
                    shown = parent
                else:
                    break
            before = _text(shown)
            for _ in changes(node):
                key = f"{name} {'.'.join(scope)}: {before} -> {_text(shown)}"
                seen[key] += 1
                key += f" #{seen[key]}" if seen[key] > 1 else ""
                code = compile(ast.fix_missing_locations(tree), name, "exec")
                found.append(Mutant(name, ".".join(scope), getattr(node, "lineno", 0), key, code))
        for field, child in ast.iter_fields(node):
            if field in ("annotation", "returns", "decorator_list", "type_params"):
                continue
            for item in child if isinstance(child, list) else [child]:
                if isinstance(item, ast.AST):
                    walk(item, scope, (*parents, node))

    walk(tree, (), ())
    return found


def _text(node: Any) -> str:
    if isinstance(node, ast.If | ast.While):
        return f"if {ast.unparse(node.test)}"
    return "".join(ast.unparse(node).splitlines()[:1])


def put_in(mutant: Mutant) -> None:
    """Replaces the functions of the imported module in place, so that whoever imported them has the mutant's."""
    module = importlib.import_module(f"vilt_prompt.{mutant.module.replace('/', '.')}")
    scratch = ModuleType(module.__name__)
    exec(mutant.code, scratch.__dict__)
    _transplant(module, scratch, module.__name__)


def _transplant(old: Any, new: Any, module: str) -> None:
    for name, theirs in list(vars(new).items()):
        ours = vars(old).get(name)
        if isinstance(theirs, type) and theirs.__module__ == module:
            _transplant(ours, theirs, module)
        elif isinstance(theirs, int | float) and type(ours) is type(theirs):
            setattr(old, name, theirs)
        ours, theirs = _function(ours), _function(theirs)
        if isinstance(theirs, FunctionType) and theirs.__module__ == module:
            ours.__code__, ours.__defaults__ = theirs.__code__, theirs.__defaults__
            ours.__kwdefaults__ = theirs.__kwdefaults__


def _function(member: Any) -> Any:
    member = getattr(member, "fget", getattr(member, "__func__", member))
    return getattr(member, "__wrapped__", member)


class Forks:
    """A pytest plugin: in place of running the tests, it runs some of them for each mutant, in a process of its own."""

    def __init__(self, mutants: list[Mutant], jobs: int) -> None:
        self.mutants, self.jobs = mutants, jobs
        self.outcomes: dict[str, str] = {}

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        items[:] = [item for item in items if not any(word in item.name for word in SLOW)]

    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        start = time.perf_counter()
        callers = self._callers(session.items)
        print(
            f"{len(session.items)} tests, {len(self.mutants)} mutants, {time.perf_counter() - start:.0f} s to measure"
        )
        running: dict[int, Mutant] = {}
        for mutant in [*self.mutants, None]:
            while running and (mutant is None or len(running) >= self.jobs):
                pid, status = os.wait()
                self._note(running.pop(pid), os.waitstatus_to_exitcode(status))
            if mutant is None:
                break
            items = callers.get((mutant.module, mutant.function), [])
            pid = os.fork()
            if pid == 0:
                resource.setrlimit(resource.RLIMIT_CPU, (CPU_SECONDS, CPU_SECONDS))
                try:
                    put_in(mutant)
                    os._exit(
                        int(not all(passes(item, after) for item, after in zip(items, [*items[1:], None], strict=True)))
                    )
                finally:
                    os._exit(1)
            running[pid] = mutant
        return True

    def _note(self, mutant: Mutant, status: int) -> None:
        outcome = "killed" if status else "equivalent" if mutant.key in EQUIVALENT else "SURVIVED"
        if status in (-signal.SIGXCPU, -signal.SIGKILL):
            outcome = f"WITHOUT AN END in {CPU_SECONDS} s"
        elif status and mutant.key in EQUIVALENT:
            outcome = "KILLED, but said to be equivalent"
        self.outcomes[mutant.key] = outcome
        if outcome not in ("killed", "equivalent"):
            print(f"{outcome}: {mutant.key}  (line {mutant.line})", flush=True)

    def _callers(self, items: list[pytest.Item]) -> dict[tuple[str, str], list[pytest.Item]]:
        """For each function, the tests that call it, fastest first: measured in a process of its own."""
        read, write = os.pipe()
        pid = os.fork()
        if pid == 0:
            status = 1
            try:
                os.close(read)
                with open(write, "w") as lines:
                    for number, (item, after) in enumerate(zip(items, [*items[1:], None], strict=True)):
                        called: set[tuple[str, str]] = set()
                        begin = time.process_time()
                        sys.setprofile(lambda frame, event, _, called=called: _record(frame, event, called))
                        passed = passes(item, after)
                        sys.setprofile(None)
                        if not passed:
                            print(f"{item.nodeid} fails without a mutant", file=sys.stderr)
                            os._exit(1)
                        seconds = time.process_time() - begin
                        lines.writelines(f"{number} {seconds} {module} {name}\n" for module, name in called)
                status = 0
            finally:
                os._exit(status)
        os.close(write)
        with open(read) as lines:
            rows = sorted((line.split() for line in lines), key=lambda row: float(row[1]))
        if os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]):
            raise pytest.UsageError("the tests must pass without mutants")
        callers: dict[tuple[str, str], list[pytest.Item]] = {}
        for number, _, module, name in rows:
            # Mutants of a class or a nested function are looked up in its own scope.
            for end in range(name.count(".") + 1):
                callers.setdefault((module, name.rsplit(".", end)[0]), []).append(items[int(number)])
        return {key: list(dict.fromkeys(value)) for key, value in callers.items()}


def _record(frame: Any, event: str, called: set[tuple[str, str]]) -> None:
    path = frame.f_code.co_filename
    if event == "call" and "/vilt_prompt/" in path:
        called.add(
            (path.rpartition("/vilt_prompt/")[2].removesuffix(".py"), frame.f_code.co_qualname.split(".<locals>")[0])
        )


def passes(item: pytest.Item, after: pytest.Item | None) -> bool:
    """Whether a test passes; fixtures that the one after it shares are kept."""
    return not any(report.failed for report in runtestprotocol(item, nextitem=after, log=False))


def main() -> None:
    """Reads the command line, runs all and prints what became of them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", nargs="*", choices=[*TARGETS, []], help="all if none are named")
    parser.add_argument("--jobs", type=int, default=os.cpu_count(), help="processes at once (default: %(default)s)")
    parser.add_argument("--equivalent", action="store_true", help="also run those in EQUIVALENT")
    parser.add_argument("--list", action="store_true", help="print the mutants and run none")
    args = parser.parse_args()
    files = args.files or list(TARGETS)
    found = [mutant for name in files for mutant in mutants(name)]
    stale = {key for key in EQUIVALENT if key.split()[0] in files} - {mutant.key for mutant in found}
    if stale:
        parser.error("EQUIVALENT lists mutants that no longer exist:\n" + "\n".join(sorted(stale)))
    if not args.equivalent:
        found = [mutant for mutant in found if mutant.key not in EQUIVALENT]
    if args.list:
        print("\n".join(mutant.key for mutant in found))
        return
    os.chdir(ROOT)
    sys.path.insert(0, str(ROOT))
    forks = Forks(found, args.jobs)
    options = ["-q", "-s", "-W", "ignore", "-p", "no:cacheprovider", "--override-ini=addopts=", "--rootdir", str(ROOT)]
    pytest.main([*options, *[f"tests/{path}" for path in TESTS]], plugins=[forks])
    counts = Counter(forks.outcomes.values())
    print(", ".join(f"{count} {outcome}" for outcome, count in counts.items()) or "nothing ran")
    sys.exit(len(forks.outcomes) != len({m.key for m in found}) or bool(set(counts) - {"killed", "equivalent"}))


if __name__ == "__main__":
    main()
