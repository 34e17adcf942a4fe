"""Check digits of numbers that identify people, accounts and cards. Pure functions over digits, each named by its rule.

Facts only, as the issuers publish them. A valid check digit makes a number likely, not certain: one in ten (or one in
ninety-seven) numbers passes by chance.
"""

from __future__ import annotations

import binascii
import hashlib
from typing import Final


def digits_of(text: str) -> str:
    """The ASCII digits of ``text``."""
    return "".join(c for c in text if c in "0123456789")


def _weighted(digits: str, weights: tuple[int, ...]) -> int:
    return sum(int(digit) * weight for digit, weight in zip(digits, weights, strict=False))


def luhn(text: str) -> bool:
    """ISO/IEC 7812-1, annex B."""
    total = 0
    for index, digit in enumerate(reversed(digits_of(text))):
        value = int(digit) * (1 + index % 2)
        total += value - 9 * (value > 9)
    return total % 10 == 0


_LUHN_BRANDS: Final = {13: "4", 14: "3", 15: "3", 16: "23456", 19: "456"}


def card(text: str) -> bool:
    """A payment card: Luhn, with the first digit that a number of this length has, and not one digit repeated."""
    digits = digits_of(text)
    return digits[:1] in _LUHN_BRANDS.get(len(digits), " ") and len(set(digits)) > 1 and luhn(digits)


IBAN_LENGTHS: Final = {
    "AD": 24, "AE": 23, "AL": 28, "AT": 20, "AZ": 28, "BA": 20, "BE": 16, "BG": 22, "BH": 22, "BR": 29, "CH": 21,
    "CR": 22, "CY": 28, "CZ": 24, "DE": 22, "DK": 18, "DO": 28, "EE": 20, "EG": 29, "ES": 24, "FI": 18, "FO": 18,
    "FR": 27, "GB": 22, "GE": 22, "GI": 23, "GL": 18, "GR": 27, "GT": 28, "HR": 21, "HU": 28, "IE": 22, "IL": 23,
    "IS": 26, "IT": 27, "JO": 30, "KW": 30, "KZ": 20, "LB": 28, "LI": 21, "LT": 20, "LU": 20, "LV": 21, "MC": 27,
    "MD": 24, "ME": 22, "MK": 19, "MT": 31, "NL": 18, "NO": 15, "PK": 24, "PL": 28, "PS": 29, "PT": 25, "QA": 29,
    "RO": 24, "RS": 22, "SA": 24, "SE": 24, "SI": 19, "SK": 24, "SM": 27, "TN": 24, "TR": 26, "UA": 29, "XK": 20,
}  # fmt: skip


def iban(text: str) -> bool:
    """ISO 13616: the country's length, and 1 modulo 97."""
    plain = "".join(text.split()).replace("-", "").upper()
    if IBAN_LENGTHS.get(plain[:2]) != len(plain) or not plain.isalnum() or not plain.isascii():
        return False
    return int("".join(str(int(c, 36)) for c in plain[4:] + plain[:4])) % 97 == 1


def aba(text: str) -> bool:
    """Routing numbers of US banks."""
    digits = digits_of(text)
    return digits[:2] != "00" and _weighted(digits, (3, 7, 1) * 3) % 10 == 0


def us_ssn(text: str) -> bool:
    """No area 000, 666 or 900 up, no group 00, no serial 0000, none of the well-known examples."""
    d = digits_of(text)
    is_given_out = d[:3] not in ("000", "666") and d[0] != "9" and d[3:5] != "00" and d[5:] != "0000"
    return is_given_out and d not in ("078051120", "219099999", "123456789") and len(set(d)) > 1


def us_itin(text: str) -> bool:
    """Begins with 9, and its group is one that was given out."""
    d = digits_of(text)
    group = int(d[3:5])
    return d[0] == "9" and (50 <= group <= 65 or 70 <= group <= 88 or 90 <= group <= 92 or 94 <= group <= 99)


def nhs(text: str) -> bool:
    """Modulo 11 over nine digits."""
    d = digits_of(text)
    check = 11 - _weighted(d[:9], (10, 9, 8, 7, 6, 5, 4, 3, 2)) % 11
    return len(set(d)) > 1 and check % 11 == int(d[9]) and check != 10


def iso7064_mod11_10(text: str) -> bool:
    """ISO 7064, MOD 11,10: German tax ids, Croatian OIB."""
    d = digits_of(text)
    product = 10
    for digit in d[:-1]:
        total = (int(digit) + product) % 10 or 10
        product = total * 2 % 11
    return (11 - product) % 10 == int(d[-1]) and len(set(d)) > 2


def german_tax_id(text: str) -> bool:
    """MOD 11,10; does not begin with 0, and exactly one digit of the first ten comes two or three times."""
    d = digits_of(text)
    counts = sorted((d[:10].count(digit) for digit in set(d[:10])), reverse=True)
    return d[0] != "0" and counts[0] in (2, 3) and counts[1:2] == [1] and iso7064_mod11_10(d)


def french_nir(text: str) -> bool:
    """97 less the number modulo 97; Corsica's departments count as 19 and 18."""
    plain = "".join(text.split()).upper().replace("2A", "19", 1).replace("2B", "18", 1)
    d = digits_of(plain)
    return len(d) == 15 and d[0] in "12" and 97 - int(d[:13]) % 97 == int(d[13:])


def spanish_id(text: str) -> bool:
    """DNI and NIE: the letter is the number modulo 23."""
    plain = "".join(c for c in text.upper() if c.isalnum())
    number = {"X": "0", "Y": "1", "Z": "2"}.get(plain[0], plain[0]) + plain[1:-1]
    return number.isdigit() and "TRWAGMYFPDXBNJZSQVHLCKE"[int(number) % 23] == plain[-1]


_ODD: Final = dict(
    zip(
        "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ",
        (1, 0, 5, 7, 9, 13, 15, 17, 19, 21, 1, 0, 5, 7, 9, 13, 15, 17, 19, 21, 2, 4, 18, 20, 11, 3, 6, 8, 12, 14, 16, 10, 22, 25, 24, 23),
        strict=True,
    )
)  # fmt: skip


def codice_fiscale(text: str) -> bool:
    """The last letter is the weighted sum modulo 26."""
    plain = text.upper()
    total = sum(
        _ODD[c] if index % 2 == 0 else (int(c) if c.isdigit() else ord(c) - 65) for index, c in enumerate(plain[:15])
    )
    return chr(65 + total % 26) == plain[15]


def dutch_bsn(text: str) -> bool:
    """The eleven test."""
    d = digits_of(text).zfill(9)
    return len(set(d)) > 1 and (_weighted(d[:8], (9, 8, 7, 6, 5, 4, 3, 2)) - int(d[8])) % 11 == 0


def belgian_id(text: str) -> bool:
    """97 less the number modulo 97; a 2 is put in front for those born from 2000 on."""
    d = digits_of(text)
    return any(97 - int(lead + d[:9]) % 97 == int(d[9:]) for lead in ("", "2"))


def pesel(text: str) -> bool:
    """Weights 1, 3, 7, 9."""
    d = digits_of(text)
    is_date = 1 <= int(d[2:4]) % 20 <= 12 and 1 <= int(d[4:6]) <= 31
    return is_date and (10 - _weighted(d[:10], (1, 3, 7, 9, 1, 3, 7, 9, 1, 3)) % 10) % 10 == int(d[10])


def swedish_id(text: str) -> bool:
    """A date and Luhn over the last ten digits."""
    d = digits_of(text)[-10:]
    return 1 <= int(d[2:4]) <= 12 and 1 <= int(d[4:6]) % 60 <= 31 and luhn(d)


def norwegian_id(text: str) -> bool:
    """Two check digits modulo 11."""
    d = digits_of(text)
    first = (11 - _weighted(d[:9], (3, 7, 6, 1, 8, 9, 4, 5, 2)) % 11) % 11
    second = (11 - _weighted(d[:10], (5, 4, 3, 2, 7, 6, 5, 4, 3, 2)) % 11) % 11
    return (str(first), str(second)) == (d[9], d[10])


def finnish_id(text: str) -> bool:
    """The number modulo 31 chooses the last sign."""
    d = digits_of(text[:-1])
    return "0123456789ABCDEFHJKLMNPRSTUVWXY"[int(d) % 31] == text[-1].upper() and 1 <= int(d[2:4]) <= 12


def swiss_ahv(text: str) -> bool:
    """756 and the check digit of EAN-13."""
    d = digits_of(text)
    return (10 - _weighted(d[:12], (1, 3) * 6) % 10) % 10 == int(d[12])


def _brazilian(d: str, size: int, weights: tuple[int, ...]) -> bool:
    for count in (size - 2, size - 1):
        rest = _weighted(d[:count], weights[-count:]) % 11
        if int(d[count]) != (0 if rest < 2 else 11 - rest):
            return False
    return len(set(d)) > 1


def cpf(text: str) -> bool:
    """Two check digits modulo 11."""
    return _brazilian(digits_of(text), 11, (11, 10, 9, 8, 7, 6, 5, 4, 3, 2))


def cnpj(text: str) -> bool:
    """Two check digits modulo 11."""
    return _brazilian(digits_of(text), 14, (6, 5, 4, 3, 2, 9, 8, 7, 6, 5, 4, 3, 2))


def sin(text: str) -> bool:
    """Canada: Luhn; 0 and 8 are not given out."""
    d = digits_of(text)
    return d[0] not in "08" and luhn(d)


def tfn(text: str) -> bool:
    """Australia: modulo 11."""
    d = digits_of(text)
    return len(set(d)) > 1 and _weighted(d, (1, 4, 3, 7, 5, 8, 6, 9, 10)) % 11 == 0


_VERHOEFF_D: Final = (
    "0123456789", "1234067895", "2340178956", "3401289567", "4012395678", "5987604321", "6598710432", "7659821043",
    "8765932104", "9876543210",
)  # fmt: skip
_VERHOEFF_P: Final = (
    "0123456789", "1576283094", "5803796142", "8916043527", "9453126870", "4286573901", "2793806415", "7046913258",
)  # fmt: skip


def aadhaar(text: str) -> bool:
    """India: Verhoeff; does not begin with 0 or 1."""
    d = digits_of(text)
    check = 0
    for index, digit in enumerate(reversed(d)):
        check = int(_VERHOEFF_D[check][int(_VERHOEFF_P[index % 8][int(digit)])])
    return d[0] not in "01" and len(set(d)) > 1 and check == 0


def chinese_id(text: str) -> bool:
    """ISO 7064, MOD 11-2, over a region, a date and a serial."""
    total = _weighted(text[:17], (7, 9, 10, 5, 8, 4, 2, 1, 6, 3, 7, 9, 10, 5, 8, 4, 2))
    is_date = 1 <= int(text[10:12]) <= 12 and 1 <= int(text[12:14]) <= 31 and text[6:8] in ("18", "19", "20")
    return is_date and "10X98765432"[total % 11] == text[17].upper()


def korean_rrn(text: str) -> bool:
    """Weights 2 to 9, modulo 11."""
    d = digits_of(text)
    is_date = 1 <= int(d[2:4]) <= 12 and 1 <= int(d[4:6]) <= 31
    return is_date and (11 - _weighted(d[:12], (2, 3, 4, 5, 6, 7, 8, 9, 2, 3, 4, 5)) % 11) % 10 == int(d[12])


def singapore_nric(text: str) -> bool:
    """The last letter from the weighted sum modulo 11."""
    plain = text.upper()
    total = _weighted(plain[1:8], (2, 7, 6, 5, 4, 3, 2)) + 4 * (plain[0] in "TG")
    return ("JZIHGFEDCBA" if plain[0] in "ST" else "XWUTRQPNMLK")[total % 11] == plain[8]


def south_african_id(text: str) -> bool:
    """A date and Luhn."""
    d = digits_of(text)
    return 1 <= int(d[2:4]) <= 12 and 1 <= int(d[4:6]) <= 31 and d[10] in "012" and luhn(d)


def turkish_id(text: str) -> bool:
    """Two check digits."""
    d = [int(c) for c in digits_of(text)]
    tenth = (sum(d[0:9:2]) * 7 - sum(d[1:8:2])) % 10
    return d[0] != 0 and tenth == d[9] and sum(d[:10]) % 10 == d[10]


def irish_pps(text: str) -> bool:
    """The letter from the weighted sum modulo 23."""
    plain = text.upper()
    total = _weighted(plain[:7], (8, 7, 6, 5, 4, 3, 2))
    if len(plain) == 9 and plain[8] != "W":
        total += 9 * (ord(plain[8]) - 64)
    return "WABCDEFGHIJKLMNOPQRSTUV"[total % 23] == plain[7]


def passport_mrz(text: str) -> bool:
    """ICAO 9303: number, birth and expiry each with a check digit, weights 7, 3, 1."""
    line = text.upper()
    for start, end in ((0, 9), (13, 19), (21, 27)):
        values = [0 if c == "<" else int(c, 36) for c in line[start:end]]
        if line[end] == "<" or int(line[end], 36) != sum(v * (7, 3, 1)[i % 3] for i, v in enumerate(values)) % 10:
            return False
    return True


_BASE58: Final = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"


def base58check(text: str) -> bool:
    """Bitcoin's addresses and keys: four bytes of a double SHA-256."""
    number = 0
    for c in text:
        number = number * 58 + _BASE58.index(c)
    raw = number.to_bytes((number.bit_length() + 7) // 8, "big")
    raw = b"\0" * (len(text) - len(text.lstrip("1"))) + raw
    return hashlib.sha256(hashlib.sha256(raw[:-4]).digest()).digest()[:4] == raw[-4:]


def imei(text: str) -> bool:
    """15 digits, Luhn."""
    d = digits_of(text)
    return len(set(d)) > 2 and luhn(d)


_BASE62: Final = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"


def crc32_base62(secret: str, check: str) -> bool:
    """Tokens of GitHub and npm end in six characters: CRC-32 of what stands before, in base 62."""
    number = 0
    for c in check:
        number = number * 62 + _BASE62.index(c)
    return number == binascii.crc32(secret.encode())


_BECH32: Final = "qpzry9x8gf2tvdw0s3jn54khce6mua7l"


def bech32(text: str) -> bool:
    """BIP 173, without its limit of length: keys of age."""
    plain = text.lower()
    prefix, _, data = plain.rpartition("1")
    values = [ord(c) >> 5 for c in prefix] + [0] + [ord(c) & 31 for c in prefix]
    try:
        values += [_BECH32.index(c) for c in data]
    except ValueError:
        return False
    check = 1
    for value in values:
        top = check >> 25
        check = (check & 0x1FFFFFF) << 5 ^ value
        for bit, generator in enumerate((0x3B6A57B2, 0x26508E6D, 0x1EA119FA, 0x3D4233DD, 0x2A1462B3)):
            check ^= generator if top >> bit & 1 else 0
    return check == 1
