"""Numbers and amounts in words: English, everyday Chinese (一百零五), and the capitals of cheques (壹佰零伍元整).

The capitals are those of the People's Bank of China's Payment and Settlement Measures (支付结算办法, 1997, annex 1),
which says where 零 has to stand and where 整 may; of the variants that it allows, one is written here.
"""

from __future__ import annotations

from aigc_helpers.errors import ReaderError

LARGEST_NUMBER = 9_999
LARGEST_AMOUNT = 100 * LARGEST_NUMBER + 99  # Fen.

CAPITAL_DIGITS = "零壹贰叁肆伍陆柒捌玖"
CAPITAL_TENS = "拾佰仟"
EVERYDAY_DIGITS = "零一二三四五六七八九"
EVERYDAY_TENS = "十百千"

# Lists of one word a line would be harder to read than these.
_UNITS = "zero one two three four five six seven eight nine".split()  # noqa: SIM905
_TEENS = "ten eleven twelve thirteen fourteen fifteen sixteen seventeen eighteen nineteen".split()  # noqa: SIM905
_ONES = [*_UNITS, *_TEENS]
_ENGLISH_TENS = "twenty thirty forty fifty sixty seventy eighty ninety".split()  # noqa: SIM905


def english_number(number: int) -> str:
    """Return 0 to 9,999 in words, as in ``one thousand two hundred and thirty-four``.

    Raises:
        ReaderError: the number is out of that range.
    """
    _check(number, 0, LARGEST_NUMBER, "number")
    if number < 20:
        return _ONES[number]
    if number < 100:
        tens = _ENGLISH_TENS[number // 10 - 2]
        return f"{tens}-{_ONES[number % 10]}" if number % 10 else tens
    size, name = (1000, "thousand") if number >= 1000 else (100, "hundred")
    head, rest = f"{_ONES[number // size]} {name}", number % size
    if not rest:
        return head
    return f"{head} {english_number(rest)}" if rest >= 100 else f"{head} and {english_number(rest)}"


def chinese_number(number: int) -> str:
    """Return 0 to 9,999 in everyday numerals, as in ``一千零五``; 15 is ``十五``, but 115 ``一百一十五``.

    Raises:
        ReaderError: the number is out of that range.
    """
    _check(number, 0, LARGEST_NUMBER, "number")
    written = _place_values(number, EVERYDAY_DIGITS, EVERYDAY_TENS)
    return written.removeprefix("一") if 10 <= number < 20 else written


def english_amount(fen: int) -> str:
    """Return an amount in words, as in ``one hundred and twenty-three yuan and forty-five fen``.

    Args:
        fen: hundredths of a yuan, 1 to 999,999.

    Raises:
        ReaderError: the amount is out of that range.
    """
    _check(fen, 1, LARGEST_AMOUNT, "number of fen")
    parts = [(fen // 100, "yuan"), (fen % 100, "fen")]
    return " and ".join(f"{english_number(number)} {name}" for number, name in parts if number)


def figures_amount(fen: int) -> str:
    """Return an amount in figures, as in ``123.45 yuan``.

    Raises:
        ReaderError: the amount is not 1 to 999,999 fen.

    Example:
        >>> figures_amount(12345)
        '123.45 yuan'
    """
    _check(fen, 1, LARGEST_AMOUNT, "number of fen")
    return f"{fen // 100}.{fen % 100:02} yuan"


def capital_amount(fen: int) -> str:
    """Return an amount in capitals, as in ``壹佰贰拾叁元肆角伍分``.

    ``整`` ends an amount of whole yuan and no other. ``零`` stands for a gap within the yuan, and for the missing 角
    between 元 and 分. Ten is ``壹拾``, never a bare ``拾``.

    Args:
        fen: hundredths of a yuan, 1 to 999,999.

    Raises:
        ReaderError: the amount is out of that range.
    """
    _check(fen, 1, LARGEST_AMOUNT, "number of fen")
    yuan, jiao, last = fen // 100, fen // 10 % 10, fen % 10
    text = f"{_place_values(yuan, CAPITAL_DIGITS, CAPITAL_TENS)}元" if yuan else ""
    if not jiao and not last:
        return f"{text}整"
    if jiao:
        text += f"{CAPITAL_DIGITS[jiao]}角"
    elif yuan:
        text += "零"
    return f"{text}{CAPITAL_DIGITS[last]}分" if last else text


def parse_capital_amount(text: str) -> int:
    """Return the fen of an amount in capitals, the inverse of ``capital_amount``.

    Raises:
        ReaderError: this is no amount, or not as ``capital_amount`` writes it; the message then says how it does.

    Example:
        >>> parse_capital_amount("壹佰贰拾叁元肆角伍分")
        12345
    """
    fen, yuan, digit = 0, 0, 0
    weights = {unit: 10 ** (place + 1) for place, unit in enumerate(CAPITAL_TENS)}
    for character in text:
        if character in CAPITAL_DIGITS:
            digit = CAPITAL_DIGITS.index(character)
            continue
        if character in weights:
            yuan += digit * weights[character]
        elif character == "元":
            fen = 100 * (yuan + digit)
        elif character in "角分":
            fen += digit * (10 if character == "角" else 1)
        elif character != "整":
            raise ReaderError(
                f"{character!r} does not belong in an amount such as 壹佰贰拾叁元肆角伍分. Only the numerals "
                f"{CAPITAL_DIGITS}, {CAPITAL_TENS} and 元角分整 do."
            )
        digit = 0
    if not 1 <= fen <= LARGEST_AMOUNT:
        raise ReaderError(f"{text!r} is no amount from 壹分 to {capital_amount(LARGEST_AMOUNT)}.")
    if text != (right := capital_amount(fen)):
        raise ReaderError(f"{text!r} is not how {figures_amount(fen)} is written: {right}.")
    return fen


def _place_values(number: int, digits: str, tens: str) -> str:
    """Return digit and place in turn, a gap of one zero or more as a single 零."""
    text, gap = "", False
    for place in range(len(tens), -1, -1):
        digit = number // 10**place % 10
        if digit:
            text += (digits[0] if gap else "") + digits[digit] + (tens[place - 1] if place else "")
        gap = bool(text) and not digit
    return text or digits[0]


def _check(value: int, low: int, high: int, name: str) -> None:
    if not low <= value <= high:
        raise ReaderError(f"a {name} of {value:,} cannot be written here: it has to lie from {low:,} to {high:,}.")
