"""The server's side of secure sums: four requests of each site, and the mean of what answered."""

from collections.abc import Callable, Mapping, Sequence

from flwr.app import ConfigRecord, Message, RecordDict

from .gate import answers_of
from .learning import PACKED, Weights
from .privacy import noisy
from .records import ARRAYS, CONFIG, METRICS, arrays_of, weights_of
from .screening import Screened, against, weighed
from .secure import KEY, SEALED, SHARE, Masked, mean_of, threshold, unmasked
from .stages import GIVES, KEYS, MASKED, SHARES, UNMASK, fits, joined, parts_of
from .study import Study

Exchange = Callable[[Sequence[Message]], list[Message]]


def summed(messages: Sequence[Message], sent: Weights, study: Study, exchange: Exchange) -> Screened:
    """One reply that holds the mean of all sites that answered, of whom no single one was seen.

    Parameters
    ----------
    messages
        What the strategy asks of the sites of this round.
    sent
        Weights that they begin with.
    study
        That they are of.
    exchange
        Sends messages and gives the replies that came in time.

    Returns
    -------
    Screened
        Nothing kept where too few answered a stage. How far single sites moved is not known: 0.
    """
    first = messages[0]
    asked = [m.metadata.dst_node_id for m in messages]
    stages = _Stages(first, study, exchange)
    keys = {
        site: parts_of(w["keys"], 2 * KEY).get(site, b"") for site, w in stages.words(KEYS, asked, {}).items()
    }
    told = {"keys": joined(keys)}
    written = stages.words(SHARES, list(keys), dict.fromkeys(keys, told)) if _enough(keys, study) else {}
    letters = {site: parts_of(word["letters"], SEALED) for site, word in written.items()}
    if not _enough(letters, study) or len(letters) < threshold(len(keys)):
        return stages.lost(asked)
    carried = {
        site: {"letters": joined({other: of[site] for other, of in letters.items() if site in of})}
        for site in letters
    }
    replies = stages.replies(MASKED, list(letters), carried, first.content[ARRAYS])
    rows = {
        site: row for site, reply in replies.items() if (row := stages.row(site, reply, sent)) is not None
    }
    if not _enough(rows, study) or len(rows) < threshold(len(keys)):
        return stages.lost(asked)
    gone = {
        "answered": joined(dict.fromkeys(rows, b"")),
        "lost": joined(dict.fromkeys(letters.keys() - rows.keys(), b"")),
    }
    revealed = stages.words(UNMASK, list(rows), dict.fromkeys(rows, gone))
    if len(revealed) < threshold(len(keys)):
        return stages.lost(asked)
    return stages.kept(rows, replies, keys, revealed, letters, sent, asked)


def _enough(sites: Mapping[int, object], study: Study) -> bool:
    return len(sites) >= study.least_sites


class _Stages:
    """Requests of one round, one kind after the other, and why sites fell out."""

    def __init__(self, first: Message, study: Study, exchange: Exchange) -> None:
        self.config = first.content[CONFIG]
        self.study, self.exchange = study, exchange
        self.refused: dict[int, str] = {}

    def replies(
        self, kind: str, sites: Sequence[int], words: Mapping[int, Mapping[str, bytes]], arrays: object = None
    ) -> dict[int, Message]:
        """Sound replies by site."""
        messages = []
        for site in sites:
            content = RecordDict({CONFIG: ConfigRecord({**self.config, **words.get(site, {})})})
            if arrays is not None:
                content[ARRAYS] = arrays
            messages.append(Message(content, site, kind))
        found: dict[int, Message] = {}
        records = {ARRAYS, METRICS} if kind == MASKED else {METRICS, CONFIG}
        for reply in self.exchange(messages):
            site = reply.metadata.src_node_id
            why = against(reply, site, sites, found, answers_of(kind, self.study), records)
            if not why and kind != MASKED and not fits(dict(reply.content[CONFIG]), GIVES[kind]):
                why = "words other than were asked"
            if why:
                self.refused.setdefault(site, why)
            else:
                found[site] = reply
        self.refused |= {s: "no reply in time" for s in sites if s not in found and s not in self.refused}
        return found

    def words(
        self, kind: str, sites: Sequence[int], words: Mapping[int, Mapping[str, bytes]]
    ) -> dict[int, Mapping[str, bytes]]:
        """The same, their words alone."""
        return {site: dict(r.content[CONFIG]) for site, r in self.replies(kind, sites, words).items()}

    def row(self, site: int, reply: Message, sent: Weights) -> Masked | None:
        """What a site sent behind its masks."""
        try:
            row = weights_of(reply.content[ARRAYS]).get(PACKED)
        except ValueError:
            row = None
        if row is None or str(row.dtype) != "torch.int64" or row.shape != sent[PACKED].shape:
            self.refused[site] = "weights of another network"
            return None
        return row

    def lost(self, asked: Sequence[int]) -> Screened:
        """No mean: too few answered."""
        return Screened((), {site: self.refused.get(site, "too few others answered") for site in asked}, {})

    def kept(
        self,
        rows: Mapping[int, Masked],
        replies: Mapping[int, Message],
        keys: Mapping[int, bytes],
        revealed: Mapping[int, Mapping[str, bytes]],
        letters: Mapping[int, object],
        sent: Weights,
        asked: Sequence[int],
    ) -> Screened:
        """The mean, as the reply of one of those that it is of."""
        by_site = {site: parts_of(word["shares"], SHARE) for site, word in revealed.items()}
        shares = {s: [of[s] for of in by_site.values() if s in of][: threshold(len(keys))] for s in letters}
        masks = {site: keys[site][:KEY] for site in letters}
        try:
            total = unmasked(rows, masks, shares, shares)
        except ValueError:
            return self.lost(asked)
        each = [weighed(replies[site], self.study.weighting) for site in sorted(rows)]
        weight = round(sum(float(r.content[METRICS]["weight"]) for r in each))
        change = mean_of(total, weight, self.study.reach)
        if float(change.abs().max()) > self.study.reach * (1 + 1e-6):
            return self.lost(asked)  # somebody did not keep to it; who, nobody can see
        if self.study.privacy == "central":
            change = noisy(change, self.study.noise * self.study.clip / len(rows))
        for reply in each:
            reply.content[ARRAYS] = arrays_of({PACKED: sent[PACKED] + change})
        refused = {site: self.refused[site] for site in asked if site not in rows}
        return Screened(tuple(each), refused, dict.fromkeys(sorted(rows), 0.0))
