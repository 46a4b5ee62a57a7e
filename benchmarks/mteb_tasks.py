"""Tasks of MTEB by name of their set, and a set written here, which needs no network."""

from collections.abc import Mapping, Sequence
from typing import Any

import mteb
from datasets import Dataset, DatasetDict
from mteb.abstasks.retrieval import AbsTaskRetrieval
from mteb.abstasks.retrieval_dataset_loaders import RetrievalSplitData
from mteb.abstasks.sts import AbsTaskSTS
from mteb.abstasks.task_metadata import TaskMetadata

WRITTEN = "written"
# Each fetches its data from Hugging Face. On two cores int8 takes minutes for the first, hours for
# the second, and sentence-transformers about ten times as long.
SETS: Mapping[str, Sequence[str]] = {
    "short": ("STSBenchmark", "KorSTS", "SprintDuplicateQuestions", "SciFact"),
    "long": (
        *("STSBenchmark", "KorSTS", "JSTS", "STS17"),
        *("SprintDuplicateQuestions", "Banking77Classification", "TwentyNewsgroupsClustering.v2"),
        *("SciFact", "NFCorpus", "ArguAna", "Ko-StrategyQA", "CosQA"),
    ),
}

# Two sentences and how much they mean the same, from 0 to 5.
PAIRS = (
    ("A man is playing a guitar.", "Someone plays an instrument.", 3.8),
    ("A man is playing a guitar.", "The stock market fell sharply today.", 0.0),
    ("The train to Berlin leaves at nine.", "The Berlin train departs at 9 o'clock.", 5.0),
    ("The train to Berlin leaves at nine.", "The train from Berlin arrives at nine.", 2.4),
    ("How do I reset my password?", "I forgot my password, what can I do?", 4.2),
    ("How do I reset my password?", "How do I change my e-mail address?", 1.6),
    ("Two dogs run across the beach.", "Dogs are running along the shore.", 4.4),
    ("Two dogs run across the beach.", "A cat sleeps on the sofa.", 0.4),
    ("The company hired fifty engineers.", "The company dismissed fifty engineers.", 1.8),
    ("The company hired fifty engineers.", "Fifty engineers were recruited by the firm.", 4.9),
    ("Rain is expected in the north tomorrow.", "It will rain in the north tomorrow.", 4.8),
    ("Rain is expected in the north tomorrow.", "The south had sunshine all week.", 1.0),
    ("She bought three kilos of apples.", "She purchased 3 kg of apples.", 5.0),
    ("She bought three kilos of apples.", "He sold his old bicycle.", 0.2),
    ("The doctor advised him to rest.", "He was told by his physician to rest.", 4.8),
    ("The doctor advised him to rest.", "The nurse measured her temperature.", 1.4),
    ("Water boils at 100 degrees Celsius.", "The boiling point of water is 100 °C.", 4.9),
    ("Water boils at 100 degrees Celsius.", "Iron melts at 1,538 degrees Celsius.", 1.7),
    ("한 남자가 기타를 연주하고 있다.", "어떤 남자가 기타를 치고 있다.", 4.9),
    ("한 남자가 기타를 연주하고 있다.", "오늘 주가가 크게 떨어졌다.", 0.0),
    ("비밀번호를 잊어버렸어요.", "비밀번호가 기억나지 않습니다.", 4.9),
    ("비밀번호를 잊어버렸어요.", "배송은 언제 오나요?", 0.4),
    ("Ein Mann spielt Gitarre.", "Jemand musiziert auf einer Gitarre.", 4.4),
    ("Ein Mann spielt Gitarre.", "Die Lieferung verspätet sich.", 0.0),
)
# A question and the passage that answers it. Each question is asked of all passages.
ANSWERS = (
    ("Which planet is called the Red Planet?", "Mars looks red because of iron oxide in its soil."),
    ("What makes bread rise?", "Yeast turns sugar into carbon dioxide, which lifts the dough."),
    ("Why is the sky blue?", "Air scatters short waves of sunlight more than long ones."),
    ("How are pearls made?", "An oyster coats a grain of sand with layers of nacre."),
    ("Who wrote the music of Swan Lake?", "Tchaikovsky composed the ballet in 1875 and 1876."),
    ("How fast does sound travel?", "In air at 20 °C a sound wave moves 343 metres in a second."),
    ("What do bees make honey from?", "Foragers collect nectar, which the hive dries in the comb."),
    ("Why do leaves turn yellow?", "When chlorophyll breaks down in autumn, carotenoids show."),
    ("How do I undo my last commit?", "git reset --soft HEAD~1 keeps the changes in the index."),
    ("Where does my table's disk space go?", "VACUUM FULL rewrites it without its dead rows."),
    (
        "How can I read a file line by line?",
        "for line in open(path): print(line)",
    ),
    ("When is the ferry running again?", "The crossing reopens on Tuesday, after the flood."),
    ("환불은 얼마나 걸리나요?", "결제 취소 금액은 영업일 기준 3~5일 안에 입금됩니다."),
    ("붉은 행성은 무엇인가요?", "화성은 표면의 산화철 때문에 붉게 보인다."),
    ("Wie lange dauert die Lieferung?", "Das Paket kommt in zwei bis drei Werktagen an."),
    ("Où se trouve la tour Eiffel ?", "Elle se dresse à Paris, au bord de la Seine."),
)
_DESCRIPTION: dict[str, Any] = {
    "description": "A few texts in several languages, to see that all sides run and agree.",
    "dataset": {"path": "written", "revision": "1"},
    "reference": None,
    "category": "t2t",
    "modalities": ["text"],
    "eval_splits": ["test"],
    "eval_langs": ["eng-Latn", "kor-Hang", "deu-Latn", "fra-Latn"],
    "date": ("2026-11-26", "2026-11-26"),
    "domains": ["Written"],
    "task_subtypes": [],
    "license": "mit",
    "annotations_creators": "human-annotated",
    "dialect": [],
    "sample_creation": "created",
    "bibtex_citation": "",
}


class WrittenPairs(AbsTaskSTS):
    """How well cosines order PAIRS."""

    min_score, max_score = 0, 5
    metadata = TaskMetadata(
        name="WrittenPairs", type="STS", main_score="cosine_spearman", **_DESCRIPTION
    )

    def load_data(self, *_: Any, **__: Any) -> None:
        """Set `dataset`; there is nothing to fetch."""
        first, second, score = (list(column) for column in zip(*PAIRS, strict=True))
        pairs = {"sentence1": first, "sentence2": second, "score": score}
        self.dataset = DatasetDict(test=Dataset.from_dict(pairs))
        self.data_loaded = True


class WrittenAnswers(AbsTaskRetrieval):
    """Whether each question of ANSWERS finds its passage."""

    metadata = TaskMetadata(
        name="WrittenAnswers", type="Retrieval", main_score="ndcg_at_10", **_DESCRIPTION
    )

    def load_data(self, *_: Any, **__: Any) -> None:
        """Set `dataset`; there is nothing to fetch."""
        numbered = [(str(number), *pair) for number, pair in enumerate(ANSWERS)]
        passages = [{"id": f"d{n}", "title": "", "text": text} for n, _, text in numbered]
        split = RetrievalSplitData(
            queries=Dataset.from_list([{"id": f"q{n}", "text": text} for n, text, _ in numbered]),
            corpus=Dataset.from_list(passages),
            relevant_docs={f"q{n}": {f"d{n}": 1} for n, *_ in numbered},
            top_ranked=None,
        )
        self.dataset = {"default": {"test": split}}
        self.data_loaded = True


def tasks_of(names: Sequence[str]) -> list[Any]:
    """The tasks of sets, and tasks by their own names, each once.

    Raises:
        KeyError: MTEB has no task of that name.
    """
    found: dict[str, Any] = {}
    for name in names:
        if name == WRITTEN:
            found |= {"WrittenPairs": WrittenPairs(), "WrittenAnswers": WrittenAnswers()}
        else:
            found |= {one: mteb.get_task(one) for one in SETS.get(name, (name,))}
    return [*found.values()]
