// What the page says, in English and Korean. {name} stands for a value.

export const WORDS = {
  en: {
    title: "Playground",
    documentation: "Documentation",
    language: "Language",
    model: "{model}, {dimensions} dimensions, {tokens} tokens of a text at most",
    account: "Account",
    email: "E-mail",
    password: "Password",
    signIn: "Sign in",
    sendLink: "E-mail a link",
    signingIn: "Signing in …",
    linkSent: "A link was sent to {email}. It opens this page, signed in.",
    passwordMissing: "Enter the password, or have a link sent.",
    token: "Access token",
    tokenHint:
      "On the machine that serves, “make token” prints one for development. It stays in "
      + "the memory of this tab.",
    tokenEmpty: "Paste an access token.",
    useToken: "Use it",
    signedInAs: "Signed in as",
    signOut: "Sign out",
    signedOut: "You are signed out.",
    signInFirst: "Sign in, or paste an access token.",
    signInFailed: "The project refused the sign-in.",
    projectAway: "The project at {url} cannot be reached.",
    requests: "Requests left",
    tokensLeft: "Tokens left today",
    ofLimit: "{left} of {limit}",
    unlimited: "no limit",
    texts: "Texts",
    enter: "Enter them",
    lines: "one per line",
    boxes: "in a box for each",
    linesLabel: "Texts, one per line",
    box: "Text {n}",
    addBox: "Add a box",
    removeBox: "Remove text {n}",
    count: "Texts: {n} of {most} at most",
    noTexts: "Enter at least one text.",
    tooMany: "{n} texts, and this page takes {most}: remove some.",
    task: "Task",
    noTask: "none",
    noTasks: "this model has none",
    size: "Dimensions",
    marks: "Mark tokens (one more request)",
    compare: "Compare",
    working: "Computing …",
    done: "Done: {n} texts in {ms} ms.",
    time: "Time",
    timeValue: "{ms} ms",
    tokensRead: "Tokens read",
    tokensCharged: "Tokens charged",
    vectors: "Vectors",
    similarities: "Cosine similarities",
    heatLabel: "Heat map of the similarities of {n} texts with one another",
    extremes: "Most similar: {a} and {b} ({most}). Least similar: {c} and {d} ({least}).",
    one: "With a second text there is something to compare.",
    cellHint: "Point at a square to see its two texts.",
    cell: "{a} and {b}: {value}. “{first}” / “{second}”",
    asTable: "As a table",
    heatCaption: "Cosine similarity of each text with each",
    textColumn: "Text",
    map: "Map of the texts",
    mapLabel: "Map of {n} texts: near each other are those with similar vectors",
    variance: "The two principal components show {share} of the differences between the texts.",
    tooFew: "A map takes three texts.",
    mapCaption: "Position of each text",
    tokens: "Tokens",
    tokenUnit:
      "Each marked piece is one token; what is struck through was not read by the model. Counts "
      + "include the prompt and special tokens.",
    tokenCount: "{n} tokens",
    tokenCut: "{n} tokens or more; the model read {read} and cut the rest",
    notRead: "not read: ",
    moreCharacters: "… and {n} more characters",
    code: "The same in code",
    copy: "Copy",
    copied: "Copied.",
    notCopied: "The browser does not allow it: select the code and copy it.",
    codeHint:
      "JWT_TOKEN in the environment has the access token. Python needs the packages httpx "
      + "and numpy.",
    field: "Field: {field}.",
    requestId: "Request: {id}.",
    retryIn: "Try again (in {seconds} s)",
    retry: "Try again",
    retryNow: "You can try again now.",
    away: "The service does not answer. Check that it runs, and try again.",
    late: "The service did not answer within {seconds} seconds.",
    badAnswer: "Status {status}, without a message.",
  },
  ko: {
    title: "플레이그라운드",
    documentation: "API 문서",
    language: "언어",
    model: "{model}, {dimensions}차원, 텍스트당 최대 {tokens}토큰",
    account: "계정",
    email: "이메일",
    password: "비밀번호",
    signIn: "로그인",
    sendLink: "이메일로 링크 받기",
    signingIn: "로그인하는 중…",
    linkSent: "{email} 주소로 링크를 보냈습니다. 링크를 열면 로그인된 상태로 이 페이지가 열립니다.",
    passwordMissing: "비밀번호를 입력하거나 이메일로 링크를 받으십시오.",
    token: "액세스 토큰",
    tokenHint: "서비스를 실행하는 컴퓨터에서 “make token”으로 개발용 토큰을 발급할 수 있습니다. 토큰은 이 탭의 메모리에만 남습니다.",
    tokenEmpty: "액세스 토큰을 붙여 넣으십시오.",
    useToken: "사용",
    signedInAs: "로그인한 사용자:",
    signOut: "로그아웃",
    signedOut: "로그아웃했습니다.",
    signInFirst: "로그인하거나 액세스 토큰을 붙여 넣으십시오.",
    signInFailed: "프로젝트가 로그인을 거부했습니다.",
    projectAway: "{url} 프로젝트에 연결할 수 없습니다.",
    requests: "남은 요청",
    tokensLeft: "오늘 남은 토큰",
    ofLimit: "{limit} 중 {left}",
    unlimited: "제한 없음",
    texts: "텍스트",
    enter: "입력 방식",
    lines: "한 줄에 하나",
    boxes: "입력란 여러 개",
    linesLabel: "텍스트, 한 줄에 하나",
    box: "텍스트 {n}",
    addBox: "입력란 추가",
    removeBox: "텍스트 {n} 삭제",
    count: "텍스트 {n}개, 최대 {most}개",
    noTexts: "텍스트를 하나 이상 입력하십시오.",
    tooMany: "텍스트가 {n}개입니다. 이 페이지는 {most}개까지 받으므로 줄여 주십시오.",
    task: "태스크",
    noTask: "없음",
    noTasks: "이 모델에는 태스크가 없습니다",
    size: "차원 수",
    marks: "토큰 표시(요청 1회 추가)",
    compare: "비교",
    working: "계산하는 중…",
    done: "완료: 텍스트 {n}개, {ms}ms.",
    time: "시간",
    timeValue: "{ms}ms",
    tokensRead: "읽은 토큰",
    tokensCharged: "차감된 토큰",
    vectors: "벡터",
    similarities: "코사인 유사도",
    heatLabel: "텍스트 {n}개 상호 간의 유사도 히트맵",
    extremes: "가장 비슷한 텍스트: {a}, {b}({most}). 가장 다른 텍스트: {c}, {d}({least}).",
    one: "텍스트가 두 개 이상이면 비교할 수 있습니다.",
    cellHint: "칸을 가리키면 해당하는 두 텍스트가 표시됩니다.",
    cell: "{a}, {b}: {value}. “{first}” / “{second}”",
    asTable: "표로 보기",
    heatCaption: "모든 텍스트 상호 간의 코사인 유사도",
    textColumn: "텍스트",
    map: "텍스트 지도",
    mapLabel: "텍스트 {n}개의 지도. 벡터가 비슷한 텍스트는 가까이 있습니다",
    variance: "두 주성분이 텍스트 간 차이의 {share}를 나타냅니다.",
    tooFew: "지도를 그리려면 텍스트가 세 개 이상 필요합니다.",
    mapCaption: "각 텍스트의 위치",
    tokens: "토큰",
    tokenUnit:
      "표시된 조각 하나가 토큰 하나입니다. 취소선이 그어진 부분은 모델이 읽지 않았습니다. "
      + "개수에는 프롬프트와 특수 토큰이 포함됩니다.",
    tokenCount: "토큰 {n}개",
    tokenCut: "토큰 {n}개 이상. 모델은 {read}개를 읽고 나머지를 잘랐습니다",
    notRead: "읽지 않음: ",
    moreCharacters: "… 외 {n}자",
    code: "같은 작업을 하는 코드",
    copy: "복사",
    copied: "복사했습니다.",
    notCopied: "브라우저가 복사를 허용하지 않습니다. 코드를 선택해 복사하십시오.",
    codeHint: "환경 변수 JWT_TOKEN에 액세스 토큰을 넣으십시오. Python에는 httpx와 numpy 패키지가 필요합니다.",
    field: "필드: {field}.",
    requestId: "요청: {id}.",
    retryIn: "다시 시도({seconds}초 후)",
    retry: "다시 시도",
    retryNow: "이제 다시 시도할 수 있습니다.",
    away: "서비스가 응답하지 않습니다. 실행 중인지 확인하고 다시 시도하십시오.",
    late: "서비스가 {seconds}초 안에 응답하지 않았습니다.",
    badAnswer: "상태 코드 {status}, 메시지 없음.",
  },
};

export const EXAMPLES = {
  en: [
    "A man is playing a guitar",
    "Someone plays an instrument",
    "The stock market fell today",
    "Share prices dropped sharply",
    "It rained in the mountains",
  ],
  ko: [
    "한 남자가 기타를 치고 있다",
    "누군가 악기를 연주한다",
    "오늘 주식 시장이 하락했다",
    "주가가 급락했다",
    "산에 비가 내렸다",
  ],
};

let language = (navigator.language || "en").toLowerCase().startsWith("ko") ? "ko" : "en";

export function currentLanguage() {
  return language;
}

/** The text of a name, with its values. */
export function say(name, values = {}) {
  return WORDS[language][name].replace(/\{(\w+)\}/g, (_, key) => String(values[key]));
}

/** A number as the language writes it. */
export function count(value) {
  return value.toLocaleString(language);
}

/** Write the fixed texts of the page in a language. */
export function speak(wanted) {
  language = wanted;
  document.documentElement.lang = language;
  document.title = `embedding-api: ${say("title")}`;
  for (const node of document.querySelectorAll("[data-word]")) {
    node.textContent = say(node.dataset.word);
  }
}
