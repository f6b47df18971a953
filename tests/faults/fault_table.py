"""One row per fault: what it was, what clients saw, what was lost, when it was over."""

from dataclasses import dataclass, field
from pathlib import Path

HEAD = "| fault | clients in flight | lost | the service | over after |\n|---|---|---|---|---|"
BEGIN, END = "<!-- faults: made by `make faults-table` -->", "<!-- /faults -->"


@dataclass(frozen=True)
class Row:
    """`over_s`: from the fault to its end: a good answer again, or the process gone."""

    fault: str
    clients: str
    lost: str
    service: str
    over_s: float

    def __str__(self) -> str:
        over = f"{self.over_s:.1f} s"
        return f"| {self.fault} | {self.clients} | {self.lost} | {self.service} | {over} |"


@dataclass
class FaultTable:
    rows: list[Row] = field(default_factory=list)

    def add(
        self, fault: str, *, clients: str, service: str, over_s: float, lost: str = "nothing"
    ) -> None:
        self.rows.append(Row(fault, clients, lost, service, over_s))

    def write(self, page: Path) -> None:
        before, _, rest = page.read_text().partition(BEGIN)
        after = rest.partition(END)[2]
        body = "\n".join([HEAD, *map(str, self.rows)])
        page.write_text(f"{before}{BEGIN}\n{body}\n{END}{after}")
