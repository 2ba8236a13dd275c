"""The rules of money: price, apportionment, postings. Whole units only, nothing is ever lost."""

from shares.money.apportion import due
from shares.money.price import Price, price_of

__all__ = ["Price", "due", "price_of"]
