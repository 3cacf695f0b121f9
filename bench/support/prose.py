# ruff: noqa: RUF001 (Chinese has punctuation of its own)
"""Texts of five kinds, in any number and size.

Prose is drawn from the sentences here, code from Python's own library; JSON is made up.
"""

from __future__ import annotations

import argparse
import json
import random
import textwrap

KINDS = ("English", "code", "German", "Chinese", "JSON")

_ENGLISH = """\
The tide gate closed by itself at a quarter past four, and nobody on the farm noticed until the morning.
Water had stood in the lower field since October, so the committee asked two engineers for an opinion.
Their report was longer than anyone had hoped, but its conclusion fitted on the back of an envelope.
A hinge of that age should not be greased; it should be replaced, together with the frame that holds it.
"We could wait another winter," said the treasurer, who had waited for eleven of them already.
In the north of the county a similar gate has been working without repairs since 1962.
What matters is not the height of the water but how quickly it rises once the wind turns to the west.
Please list the three main causes of the failure, with one sentence for each of them.
She wrote the numbers down twice, compared both columns, and found the same mistake in each.
By the time the pumps arrived from the city, the sea had already done most of their work.
Costs are estimated at 48,500 for materials and about half as much again for labour.
It isn't obvious why the older drawings show a second outlet that no map has ever mentioned.
"""

_GERMAN = """\
Das Sieltor schloss sich um Viertel nach vier von selbst, und bis zum Morgen bemerkte es niemand auf dem Hof.
Seit Oktober stand das Wasser auf der unteren Wiese, weshalb der Ausschuss zwei Ingenieure um ein Gutachten bat.
Der Bericht war länger, als alle gehofft hatten, aber das Ergebnis passte auf die Rückseite eines Briefumschlags.
Ein Scharnier dieses Alters sollte man nicht schmieren, sondern samt dem Rahmen ersetzen.
„Wir könnten noch einen Winter warten“, sagte die Schatzmeisterin, die schon elf davon abgewartet hatte.
Im Norden des Landkreises arbeitet ein ähnliches Tor seit 1962 ohne nennenswerte Instandsetzung.
Entscheidend ist nicht der Wasserstand, sondern wie schnell er steigt, sobald der Wind auf West dreht.
Bitte nennen Sie die drei wichtigsten Ursachen des Ausfalls und begründen Sie jede in einem Satz.
Sie schrieb die Zahlen zweimal auf, verglich die Spalten und fand in beiden denselben Rechenfehler.
Als die Hochleistungspumpen aus der Stadt eintrafen, hatte das Meer die meiste Arbeit schon erledigt.
Die Materialkosten werden auf 48.500 Euro geschätzt, die Arbeitsstunden auf etwa die Hälfte davon.
Unklar bleibt, warum die Entwässerungspläne einen zweiten Auslass zeigen, den keine Karte verzeichnet.
"""

_CHINESE = """\
挡潮闸在四点一刻自动关闭，农场里的人直到第二天早上才发现。
从十月份起，低处的田地一直积水，因此委员会请两位工程师提出意见。
他们的报告比大家希望的要长，但结论写在一个信封背面就够了。
这么旧的铰链不应该再上油，而应该连同门框一起更换。
“我们可以再等一个冬天，”会计说，而她已经等了十一个冬天。
在县城北部，一座类似的水闸从1962年起一直运行，没有大修过。
重要的不是水位有多高，而是风向转西以后水涨得有多快。
请列出故障的三个主要原因，并用一句话分别说明。
她把数字抄了两遍，对照两栏，结果在每一栏里都发现了同样的错误。
等抽水泵从城里运到的时候，大海已经完成了大部分工作。
材料费用估计为48,500元，人工费用大约是它的一半。
旧图纸上为什么会有第二个出水口，至今没有人能解释清楚。
"""

_SENTENCES = {"English": _ENGLISH.splitlines(), "German": _GERMAN.splitlines(), "Chinese": _CHINESE.splitlines()}
_MODULES = (argparse, json, random, textwrap)


def text(kind: str, characters: int, chance: random.Random) -> str:
    """One text of that kind; the drawing decides which."""
    if kind == "code":
        source = chance.choice(_SOURCES)
        start = source.rfind("\n", 0, chance.randrange(len(source))) + 1
        return (source[start:].lstrip() + source * (1 + characters // len(source)))[:characters]
    if kind == "JSON":
        return json.dumps([_record(chance) for _ in range(1 + characters // 150)], ensure_ascii=False)[:characters]
    glue = "" if kind == "Chinese" else " "
    found = ""
    while len(found) < characters:
        found += chance.choice(_SENTENCES[kind]) + (chance.choice((glue, glue, glue, "\n\n")))
    return found[:characters]


def _record(chance: random.Random) -> dict[str, object]:
    return {
        "id": f"{chance.getrandbits(64):016x}",
        "station": chance.choice(("north", "harbour", "mill", "lower field")),
        "level_m": round(chance.gauss(1.4, 0.6), 3),
        "measured_at": f"2026-{chance.randrange(1, 13):02}-{chance.randrange(1, 29):02}T0{chance.randrange(10)}:15:00Z",
        "flags": chance.sample(["calibrated", "manual", "late", "repeated"], chance.randrange(3)),
        "valid": chance.random() < 0.9,
    }


def _source(module: object) -> str:
    with open(str(module.__file__), encoding="utf-8") as file:  # type: ignore[attr-defined]  # noqa: PTH123
        return file.read()


_SOURCES = [_source(module) for module in _MODULES]
