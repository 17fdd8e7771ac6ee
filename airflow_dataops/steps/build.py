"""What a frozen batch wants decided for each partition, built on the ledger's current decisions (DESIGN §5.5).

Nothing here is visible to a reader: new directories are filled, live ones are only looked at.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from airflow_dataops.core.comparison import MIXED
from airflow_dataops.core.errors import ProofError, RangeError
from airflow_dataops.core.fingerprint import Fingerprint, key_fingerprints, same_kinds
from airflow_dataops.core.naming import sanitise
from airflow_dataops.core.profile import Profile
from airflow_dataops.core.schema import TableSchema
from airflow_dataops.core.table_spec import TableSpec
from airflow_dataops.lake.base import Lake
from airflow_dataops.ledger.base import BatchContent, Claim, Decision, DecisionPlan, FileFacts, StagedPartition
from airflow_dataops.steps.lease import Lease
from airflow_dataops.steps.run import Edges
from airflow_dataops.steps.stage import PartitionFiles, WrittenPartition, hidden_columns, hidden_under, profile_of, stamped_anew
from airflow_dataops.steps.target import keys_fix_partition

BASE = "base-"
"""Files that a merge wrote anew hold rows of many batches: their names begin with no batch id."""
COMPACTED = "compact-"
"""So do those of a compaction. In an append each of their rows says which batch it is of."""


def build(table: TableSpec, claim: Claim, content: BatchContent, schema: TableSchema, edges: Edges) -> list[DecisionPlan]:
    """The plans of all partitions this batch changes; empty when it changes none. `schema` is the lake table's, data and
    standard columns, as the catalog has it after DDL."""
    current = edges.ledger.decisions.current(table.key)
    return _Builder(table, claim, content, schema, edges, current).plans()


def refuse_mixed(table: TableSpec, claim: Claim, schema: TableSchema, edges: Edges) -> None:
    """RangeError when an append is to run again, but its rows are by now in files that a merge wrote: no file's name tells
    them from others, and they would stay beside those of the new generation. Asked before the batch is frozen."""
    if table.write.mode != "append" or claim.generation == 1:
        return
    for decision in edges.ledger.decisions.current(table.key).values():
        merged = [e.path for e in edges.lake.list(decision.location) if e.path.rsplit("/", 1)[-1].startswith(BASE)]
        for rows in edges.lake.read(merged, schema.to_arrow(), columns=[c for c in schema.names if c == "_batch_id"]):
            known = rows.column(0) if rows.num_columns else None
            if known is None or known.null_count or pc.any(own_rows(known, claim.batch_id)).as_py():
                raise RangeError(
                    f"Cannot run batch {claim.object_name} of {table.key} again by append: its rows were merged with others since "
                    "-> in a file of their own. They would be there twice. Go back to `write.mode: merge`."
                )


def own_rows(batch_ids: pa.Array, batch_id: str) -> pa.Array:
    """Which rows, by their `_batch_id`, are of the batch: those it has read, and those replayed from its dead letters."""
    return pc.or_(pc.equal(batch_ids, batch_id), pc.starts_with(batch_ids, f"{batch_id}-g"))


def is_compacted(path: str) -> bool:
    """Whether a compaction has written the file, from rows of several batches of an append."""
    return path.rsplit("/", 1)[-1].startswith(COMPACTED)


class _Builder:
    def __init__(
        self,
        table: TableSpec,
        claim: Claim,
        content: BatchContent,
        schema: TableSchema,
        edges: Edges,
        current: Mapping[str, Decision],
    ) -> None:
        self.table, self.claim, self.content, self.schema = table, claim, content, schema
        self.edges, self.lake, self.current = edges, edges.lake, current
        self.place = f"{claim.directory}/b-{edges.nonce()}"
        self.lease = Lease(claim, edges)

    def plans(self) -> list[DecisionPlan]:
        match self.table.write.mode:
            case "overwrite_partition":
                return self._overwrite()
            case "append" if self.claim.generation == 1:
                return self._append()
            case "append":
                return self._replace_batch()
            case _:
                return self._merge()

    def _plan(
        self, name: str, values: tuple[str | None, ...], location: str, rows: int, size: int, print_: Fingerprint,
        profile: Profile | None, files: FileFacts | None,
    ) -> DecisionPlan:  # fmt: skip
        have = self.current.get(name)
        return DecisionPlan(name, values, have.epoch if have else 0, location, rows, size, str(print_), self.schema, profile, files)

    def _staged_plan(self, part: StagedPartition) -> DecisionPlan:
        size = sum(int(f["bytes"]) for f in part.files)
        print_ = Fingerprint.parse(part.fingerprint)
        return self._plan(part.name, part.values, part.directory, part.rows, size, print_, part.profile, self._staged_facts(part))

    def _staged_facts(self, part: StagedPartition) -> FileFacts:
        return FileFacts.of(len(part.files), [self.content.schema] if part.files else [])

    def _overwrite(self) -> list[DecisionPlan]:
        """The staged directories as they are. A full snapshot of a data-partitioned table also empties the partitions
        it no longer has (A20)."""
        plans = [self._staged_plan(part) for part in self.content.partitions if not self._stands(part)]
        if self.content.complete:
            staged = {part.name for part in self.content.partitions}
            plans += [self._emptied(d) for n, d in self.current.items() if n not in staged and d.rows]
        return plans

    def _stands(self, part: StagedPartition) -> bool:
        """Whether it was found unchanged, and still is: what it was compared with may have been dropped since."""
        have = self.current.get(part.name)
        return part.unchanged and have is not None and have.fingerprint == part.fingerprint

    def _emptied(self, decision: Decision) -> DecisionPlan:
        directory = f"{self.place}/{decision.name}"
        self.lake.make_directory(directory)
        return self._plan(decision.name, decision.values, directory, 0, 0, Fingerprint.EMPTY, Profile.NOTHING, FileFacts(0, ()))

    def _append(self) -> list[DecisionPlan]:
        """One object joins the live directory; a partition's first files are its directory; several files for a live
        partition become a new directory, so that a reader sees all or none of them (A6)."""
        plans = []
        names = [part.name for part in self.content.partitions]
        profiles = self.edges.ledger.decisions.profiles(self.table.key, names)
        facts = self.edges.ledger.maintenance.facts(self.table.key, names)
        for part in self.content.partitions:
            have = self.current.get(part.name)
            if have is None:
                plans.append(self._staged_plan(part))
            elif len(part.files) == 1:
                size = have.bytes + int(part.files[0]["bytes"])
                print_ = Fingerprint.parse(have.fingerprint) + Fingerprint.parse(part.fingerprint)
                before = profiles.get(part.name)
                profile = before + part.profile if before is not None and part.profile is not None else None
                known = facts.get(part.name)
                files = known + self._staged_facts(part) if known is not None else None
                plans.append(self._plan(part.name, part.values, have.location, have.rows + part.rows, size, print_, profile, files))
            elif part.files:
                plans.append(self._copied(part.name, part.values, self._files(have), part.files))
        return plans

    def _replace_batch(self) -> list[DecisionPlan]:
        """A later generation: the objects of earlier ones leave every partition that has some, in new directories, so
        that a zombie of the earlier generation writes where nobody looks (A17). So do rows that were replayed from its dead
        letters (`origin_of`): the batch has read them again."""
        mine = f"{self.claim.batch_id}-g"
        staged = {part.name: part for part in self.content.partitions}
        plans = []
        for name, have in self.current.items():
            files = self._files(have)
            mixed = [path for path in files if is_compacted(path) and self._holds_own(path)]
            others = [path for path in files if path not in mixed and not path.rsplit("/", 1)[-1].startswith(mine)]
            part = staged.pop(name, None)
            if len(others) < len(files) or (part is not None and part.files):
                self._without_own(have.values, mixed)
                plans.append(self._copied(name, have.values, others, part.files if part else ()))
            elif part is not None:  # nothing to take away, nothing to bring: the standing directory is decided again
                profile = self.edges.ledger.decisions.profiles(self.table.key, [name]).get(name)
                known = self.edges.ledger.maintenance.facts(self.table.key, [name]).get(name)
                print_ = Fingerprint.parse(have.fingerprint)
                plans.append(self._plan(name, have.values, have.location, have.rows, have.bytes, print_, profile, known))
        return plans + [self._staged_plan(part) for part in staged.values()]

    def _holds_own(self, path: str) -> bool:
        """Whether the file has rows of this batch, of an earlier generation."""
        own = (pc.any(own_rows(rows.column(0), self.claim.batch_id)).as_py() for rows in self._batch_ids(path))
        return any(own)

    def _batch_ids(self, path: str) -> Iterable[pa.RecordBatch]:
        return self.lake.read([path], self.schema.to_arrow(), columns=["_batch_id"])

    def _without_own(self, values: tuple[str | None, ...], paths: Sequence[str]) -> None:
        """These files again, without the rows of this batch."""
        schema = self.schema.to_arrow()
        for path in paths:
            hidden = hidden_under(self.lake.footer(path), self.schema.names)
            files = PartitionFiles(self.lake, self.place, COMPACTED + self.edges.nonce(), self.table, schema, hidden)
            try:
                for rows in self._base([path]):
                    self.lease.keep()
                    own = own_rows(rows.column(schema.get_field_index("_batch_id")), self.claim.batch_id)
                    files.write(values, rows.filter(pc.invert(own)))
                files.close()
            except BaseException:
                files.abort()
                raise

    def _files(self, decision: Decision) -> list[str]:
        return [entry.path for entry in self.lake.list(decision.location)]

    def _copied(
        self, name: str, values: tuple[str | None, ...], base: Sequence[str], staged: Iterable[Mapping[str, object]]
    ) -> DecisionPlan:
        directory = f"{self.place}/{name}" if name else self.place
        self.lake.make_directory(directory)
        for path in (*base, *(str(f["path"]) for f in staged)):
            self.lease.keep()
            self.lake.link(path, f"{directory}/{path.rsplit('/', 1)[-1]}")
        return self._plan_of_directory(name, values, directory)

    def _plan_of_directory(self, name: str, values: tuple[str | None, ...], directory: str) -> DecisionPlan:
        """As the footers of what is there say."""
        rows, size, print_, profile, files = footing(self.lake, directory)
        return self._plan(name, values, directory, rows, size, print_, profile, files)

    def _merge(self) -> list[DecisionPlan]:
        """New directory = base without the delta's keys + delta. A key whose partition column is not part of it may
        move: it then also leaves the partition it was in (A21)."""
        keys = [sanitise(key) for key in self.table.write.keys]
        delta = _Keys.of(self._keys(self._paths(self.content.partitions), keys))
        staged = {part.name: part for part in self.content.partitions}
        stay_put = keys_fix_partition(self.table)
        plans = []
        for name, have in self.current.items():
            part = staged.pop(name, None)
            if part is None and (stay_put or not len(delta)):
                continue
            plan = self._merged(have, part, keys, delta)
            if plan is not None:
                plans.append(plan)
        return plans + [self._staged_plan(part) for part in staged.values()]

    def _merged(self, have: Decision, part: StagedPartition | None, keys: list[str], delta: _Keys) -> DecisionPlan | None:
        base = self._files(have)
        if part is None and not any(delta.contain(p).any() for p in self._keys(base, keys)):
            return None
        name, hidden = BASE + self.claim.object_name, self._hidden(base)
        files = PartitionFiles(self.lake, self.place, name, self.table, self.schema.to_arrow(), hidden)
        kept = before = 0
        try:
            for rows in self._base(base):
                self.lease.keep()
                keep = ~delta.contain(key_fingerprints(rows, keys))
                before += rows.num_rows
                if keep.any():
                    kept += int(keep.sum())
                    files.write(have.values, rows if keep.all() else rows.filter(pa.array(keep)))
            files.partition(have.values)
            written: WrittenPartition = files.close()[0]
        except BaseException:
            files.abort()
            raise
        staged_rows = part.rows if part is not None else 0
        for file in part.files if part is not None else ():
            path = str(file["path"])
            self.lake.link(path, f"{written.directory}/{path.rsplit('/', 1)[-1]}")
        plan = self._plan_of_directory(have.name, have.values, written.directory)
        if before != have.rows or plan.rows != kept + staged_rows:
            raise ProofError(
                f"Cannot prove merge of {self.table.key} into {have.name or 'the table'}: before {before} (ledger {have.rows}), "
                f"kept {kept}, merged {staged_rows}, after {plan.rows} -> after = before + inserted - replaced. "
                "Nothing was published."
            )
        return plan

    def _base(self, paths: Sequence[str]) -> Iterable[pa.RecordBatch]:
        """The standing rows under the new schema; with new fingerprints where that made other values of them (text of numbers)."""
        schema = self.schema.to_arrow()
        for path in paths:
            same = same_kinds(self.lake.footer(path).schema, schema)
            for rows in self.lake.read([path], schema):
                yield rows if same else stamped_anew(rows)

    def _hidden(self, paths: Sequence[str]) -> dict[str, str]:
        """How columns are hidden in rows of all these files together."""
        each = [hidden_columns(self.lake.footer(path)) for path in paths]
        names = {name for of in each for name in of}
        return {name: each[0][name] if all(of.get(name) == each[0].get(name) for of in each) else MIXED for name in names}

    def _paths(self, parts: Iterable[StagedPartition]) -> list[str]:
        return [str(f["path"]) for part in parts for f in part.files]

    def _keys(self, paths: list[str], keys: list[str]) -> Iterable[np.ndarray]:
        for rows in self.lake.read(paths, self.schema.to_arrow(), columns=keys):
            self.lease.keep()
            yield key_fingerprints(rows, keys)


def footing(lake: Lake, directory: str) -> tuple[int, int, Fingerprint, Profile, FileFacts]:
    """Rows, bytes, fingerprint, profile and file facts of what is there, from the files' own footers."""
    rows, size, print_, profile, schemas = 0, 0, Fingerprint.EMPTY, Profile.NOTHING, []
    for entry in lake.list(directory):
        footer = lake.footer(entry.path)
        rows, size = rows + footer.rows, size + footer.bytes
        print_ += Fingerprint.parse(footer.metadata["fingerprint"])
        profile += profile_of(footer)
        schemas.append(TableSchema.of_arrow(footer.schema))
    if print_.rows != rows:
        raise ProofError(f"Cannot prove {directory}: footers count {rows} rows, fingerprints {print_.rows} -> the same.")
    return rows, size, print_, profile, FileFacts.of(len(schemas), schemas)


class _Keys:
    """A set of 128-bit key identities, sorted once, asked in whole batches."""

    def __init__(self, prints: np.ndarray) -> None:
        order = np.lexsort((prints[:, 1], prints[:, 0]))
        self._sorted = prints[order]
        high = self._sorted[:, 0]
        self._ambiguous = bool((high[1:] == high[:-1]).any())
        self._all = {p.tobytes() for p in self._sorted} if self._ambiguous else set()

    @classmethod
    def of(cls, prints: Iterable[np.ndarray]) -> _Keys:
        found = list(prints)
        return cls(np.concatenate(found) if found else np.empty((0, 2), dtype=np.uint64))

    def __len__(self) -> int:
        return len(self._sorted)

    def contain(self, prints: np.ndarray) -> np.ndarray:
        """Which of these are in the set: a boolean per row."""
        if not len(self._sorted):
            return np.zeros(len(prints), dtype=bool)
        if self._ambiguous:  # two keys share their high word: the slow way is exact
            return np.fromiter((p.tobytes() in self._all for p in prints), dtype=bool, count=len(prints))
        at = np.minimum(np.searchsorted(self._sorted[:, 0], prints[:, 0]), len(self._sorted) - 1)
        found: np.ndarray = (self._sorted[at] == prints).all(axis=1)
        return found
