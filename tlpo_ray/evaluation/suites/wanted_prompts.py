"""Wording of the suite `wanted` in thirteen languages: prompts that ask for foreign text, and sentences to quote.

Names follow a colon, so that none needs an article, a case or a particle.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Wording:
    """Prompts in one language, and sentences of it that prompts in other languages ask to quote."""

    translate: str
    """Asks for `{name}` in `{language}`."""
    quote: str
    """Asks to quote `{sentence}`."""
    own_script: str
    """Asks for the name of the place `{name}` as it is written there."""
    code: str
    """Asks for code with the name of the country `{name}` in a comment, in `{language}`."""
    sentences: tuple[str, ...]


WORDINGS = {
    "ar": Wording(
        translate="ترجم الاسم التالي. اللغة المطلوبة: {language}. الاسم: {name}.",
        quote="اقتبس الجملة التالية حرفيا ثم اشرح معناها بإيجاز: «{sentence}»",
        own_script="المكان: {name}. كيف يكتب اسمه بالأحرف المستعملة هناك؟",
        code="اكتب سطرا واحدا بلغة بايثون يطبع العدد 1، وضع في التعليق اسم البلد فقط. البلد: {name}. "
        "لغة التعليق: {language}.",
        sentences=(
            "المكتبة مفتوحة حتى الساعة الثامنة مساء.",
            "من فضلك أحضر معطفا دافئا غدا.",
            "اشترينا خبزا طازجا من السوق.",
        ),
    ),
    "de": Wording(
        translate="Übersetze den folgenden Namen. Zielsprache: {language}. Name: {name}.",
        quote="Zitiere den folgenden Satz wörtlich und erkläre kurz, was er bedeutet: „{sentence}“",
        own_script="Ort: {name}. Wie schreibt man seinen Namen in der dortigen Schrift?",
        code="Schreibe eine Zeile Python, die die Zahl 1 ausgibt, und setze in den Kommentar nur den Namen des Landes. "
        "Land: {name}. Sprache des Kommentars: {language}.",
        sentences=(
            "Die Bibliothek ist bis acht Uhr abends geöffnet.",
            "Bring morgen bitte einen warmen Mantel mit.",
            "Wir haben auf dem Markt frisches Brot gekauft.",
        ),
    ),
    "en": Wording(
        translate="Translate the following name. Target language: {language}. Name: {name}.",
        quote="Quote the following sentence word for word, then explain briefly what it means: “{sentence}”",
        own_script="Place: {name}. How is its name written in the script that is used there?",
        code="Write one line of Python that prints the number 1, and put only the name of the country in the comment. "
        "Country: {name}. Language of the comment: {language}.",
        sentences=(
            "The library is open until eight in the evening.",
            "Please bring a warm coat tomorrow.",
            "We bought fresh bread at the market.",
        ),
    ),
    "es": Wording(
        translate="Traduce el siguiente nombre. Idioma de destino: {language}. Nombre: {name}.",
        quote="Cita la siguiente frase palabra por palabra y explica brevemente qué significa: «{sentence}»",
        own_script="Lugar: {name}. ¿Cómo se escribe su nombre en la escritura que se usa allí?",
        code="Escribe una línea de Python que imprima el número 1 y pon en el comentario solo el nombre del país. "
        "País: {name}. Idioma del comentario: {language}.",
        sentences=(
            "La biblioteca está abierta hasta las ocho de la tarde.",
            "Trae mañana un abrigo, por favor.",
            "Compramos pan recién hecho en el mercado.",
        ),
    ),
    "fr": Wording(
        translate="Traduis le nom suivant. Langue cible : {language}. Nom : {name}.",
        quote="Cite la phrase suivante mot pour mot, puis explique brièvement ce qu’elle veut dire : « {sentence} »",
        own_script="Lieu : {name}. Comment son nom s’écrit-il dans l’écriture utilisée là-bas ?",
        code="Écris une ligne de Python qui affiche le nombre 1 et ne mets dans le commentaire que le nom du pays. "
        "Pays : {name}. Langue du commentaire : {language}.",
        sentences=(
            "La bibliothèque ferme à huit heures du soir.",
            "Apporte un manteau chaud demain.",
            "Nous avons acheté du pain frais au marché.",
        ),
    ),
    "it": Wording(
        translate="Traduci il nome seguente. Lingua di destinazione: {language}. Nome: {name}.",
        quote="Cita la frase seguente parola per parola e spiega brevemente che cosa significa: «{sentence}»",
        own_script="Luogo: {name}. Come si scrive il suo nome nella scrittura usata laggiù?",
        code="Scrivi una riga di Python che stampi il numero 1 e metti nel commento solo il nome del paese. "
        "Paese: {name}. Lingua del commento: {language}.",
        sentences=(
            "La biblioteca resta aperta fino alle otto di sera.",
            "Domani porta un cappotto pesante, per favore.",
            "Abbiamo comprato il pane fresco al mercato.",
        ),
    ),
    "ja": Wording(
        translate="次の名前を翻訳してください。翻訳先の言語：{language}。名前：{name}。",
        quote="次の文を一字一句そのまま引用し、意味を簡単に説明してください：「{sentence}」",
        own_script="場所：{name}。その名前は現地の文字でどう書きますか？",
        code="数字の1を出力するPythonのコードを一行書き、コメントには国名だけを書いてください。国：{name}。"
        "コメントの言語：{language}。",
        sentences=(
            "図書館は夜八時まで開いています。",
            "明日は暖かい上着を持ってきてください。",
            "私たちは市場で焼きたてのパンを買いました。",
        ),
    ),
    "ko": Wording(
        translate="다음 이름을 번역해 주세요. 번역할 언어: {language}. 이름: {name}.",
        quote="다음 문장을 글자 그대로 인용하고 무슨 뜻인지 짧게 설명해 주세요: “{sentence}”",
        own_script="장소: {name}. 그곳의 문자로는 이름을 어떻게 쓰나요?",
        code="숫자 1을 출력하는 파이썬 코드를 한 줄 쓰고, 주석에는 나라 이름만 적어 주세요. 나라: {name}. "
        "주석의 언어: {language}.",
        sentences=(
            "도서관은 저녁 여덟 시까지 엽니다.",
            "내일은 따뜻한 외투를 가져오세요.",
            "우리는 시장에서 갓 구운 빵을 샀습니다.",
        ),
    ),
    "pt": Wording(
        translate="Traduza o nome a seguir. Idioma de destino: {language}. Nome: {name}.",
        quote="Cite a frase a seguir palavra por palavra e explique brevemente o que ela significa: “{sentence}”",
        own_script="Lugar: {name}. Como se escreve o nome na escrita usada lá?",
        code="Escreva uma linha de Python que imprima o número 1 e coloque no comentário apenas o nome do país. "
        "País: {name}. Idioma do comentário: {language}.",
        sentences=(
            "A biblioteca fica aberta até as oito da noite.",
            "Traga um casaco quente amanhã, por favor.",
            "Compramos pão fresco no mercado.",
        ),
    ),
    "ru": Wording(
        translate="Переведи следующее название. Язык перевода: {language}. Название: {name}.",
        quote="Процитируй следующее предложение дословно и кратко объясни, что оно значит: «{sentence}»",
        own_script="Место: {name}. Как его название пишется местным письмом?",
        code="Напиши одну строку на Python, которая выводит число 1, и укажи в комментарии только название страны. "
        "Страна: {name}. Язык комментария: {language}.",
        sentences=(
            "Библиотека открыта до восьми часов вечера.",
            "Завтра возьми с собой тёплое пальто.",
            "Мы купили на рынке свежий хлеб.",
        ),
    ),
    "th": Wording(
        translate="แปลชื่อต่อไปนี้ ภาษาปลายทาง: {language} ชื่อ: {name}",
        quote="คัดลอกประโยคต่อไปนี้แบบคำต่อคำ แล้วอธิบายความหมายสั้น ๆ: “{sentence}”",
        own_script="สถานที่: {name} ชื่อนี้เขียนด้วยอักษรของท้องถิ่นอย่างไร",
        code="เขียนโค้ด Python หนึ่งบรรทัดที่แสดงเลข 1 และใส่เฉพาะชื่อประเทศในความคิดเห็น ประเทศ: {name} "
        "ภาษาของความคิดเห็น: {language}",
        sentences=("ห้องสมุดเปิดถึงสองทุ่ม", "พรุ่งนี้กรุณานำเสื้อกันหนาวมาด้วย", "เราซื้อขนมปังสดที่ตลาด"),
    ),
    "uk": Wording(
        translate="Переклади таку назву. Мова перекладу: {language}. Назва: {name}.",
        quote="Процитуй таке речення дослівно й коротко поясни, що воно означає: «{sentence}»",
        own_script="Місце: {name}. Як його назва пишеться місцевим письмом?",
        code="Напиши один рядок на Python, який виводить число 1, і вкажи в коментарі лише назву країни. "
        "Країна: {name}. Мова коментаря: {language}.",
        sentences=(
            "Бібліотека працює до восьмої години вечора.",
            "Візьми завтра з собою тепле пальто.",
            "Ми купили на ринку свіжий хліб.",
        ),
    ),
    "zh": Wording(
        translate="请翻译下面的名称。目标语言：{language}。名称：{name}。",
        quote="请逐字引用下面的句子，并简要说明它的意思：“{sentence}”",
        own_script="地点：{name}。它的名字用当地的文字怎么写？",
        code="请写一行输出数字1的Python代码，注释里只写国名。国家：{name}。注释的语言：{language}。",
        sentences=("图书馆开到晚上八点。", "明天请带一件暖和的外套。", "我们在市场买了新鲜的面包。"),
    ),
}
"""Language → its wording."""
