"""Texts of the self-check: typical ones in many scripts, and difficult ones for tokenizers."""

SENTENCES = (
    "A man is playing a guitar.",
    "Someone plays an instrument.",
    "The stock market fell sharply today.",
    "How do I reset my password?",
    "Click 'Forgot password' on the sign-in page and follow the link we send you.",
    "The quick brown fox jumps over the lazy dog.",
    "ok",
    "비밀번호를 잊어버렸어요. 어떻게 다시 설정하나요?",
    "오늘 서울 날씨는 맑고 기온은 23도입니다.",
    "한 남자가 기타를 연주하고 있다.",
    "주문하신 상품은 내일 오전에 배송될 예정입니다.",
    "男性がギターを弾いている。",
    "明日の会議は午後三時に始まります。",
    "一个男人在弹吉他。",
    "今天股市大幅下跌。",
    "Ein Mann spielt Gitarre.",
    "Die Lieferung verspätet sich um zwei Werktage.",
    "Un homme joue de la guitare.",
    "Le train pour Lyon part à huit heures.",
    "Un hombre toca la guitarra.",
    "La reunión se aplazó hasta el lunes.",
    "Мужчина играет на гитаре.",
    "Завтра ожидается сильный снегопад.",
    "رجل يعزف على الجيتار.",
    "एक आदमी गिटार बजा रहा है।",
    "ชายคนหนึ่งกำลังเล่นกีตาร์",
    "Một người đàn ông đang chơi ghi-ta.",
    "Um homem está tocando violão.",
    "איש מנגן בגיטרה.",
    "def add(a: int, b: int) -> int:\n    return a + b",
    "SELECT user_id, count(*) FROM orders GROUP BY user_id HAVING count(*) > 3;",
    "for (let i = 0; i < rows.length; i++) { total += rows[i].price; }",
    '{"status": 404, "error": "not found", "path": "/v1/users/42"}',
    "3.14159 2.71828 1.41421 -273.15 6.022e23",
    "Invoice 2024-11-03: 14 units at 19.99 EUR = 279.86 EUR, due in 30 days.",
    "https://example.org/search?q=text+embeddings&page=2#results",
    "🚀🎉 shipped!! 👩‍👩‍👧‍👦",
    "   spaces,\ttabs\nand newlines   ",
    "Embedding models turn text into vectors so that texts with similar meaning lie close "
    "together. A search engine embeds every document once, embeds each query as it comes, and "
    "returns the nearest documents.",
    "The mitochondrion produces most of the cell's supply of adenosine triphosphate, which is used "
    "throughout the cell as a source of chemical energy.",
)

PARAGRAPH = (
    "In the spring the river rises and the ferry cannot cross for a week. "
    "봄이 되면 강물이 불어나 배가 다니지 못한다. "
    "Farmers bring 120 sacks of rice to the lower landing and wait; prices rise by 8.5 percent. "
    "Im Frühjahr steigt der Fluss, und die Fähre liegt still. 春天河水上涨，渡船停航一周。 "
)


def long_text(repeats: int = 64) -> str:
    """More than 2,048 tokens in any tokenizer; about 20,000 characters with 64 repeats."""
    return " ".join(f"{number}. {PARAGRAPH}" for number in range(repeats))
