"""Sending mail over SMTP, in a thread of its own kind: a dead mail server holds up nobody else."""

from __future__ import annotations

import smtplib
import ssl
from dataclasses import dataclass
from email.message import EmailMessage
from email.utils import formatdate, make_msgid
from pathlib import Path

import trio

from pool.config import NotificationsConfig

_SECONDS = 20.0
_AT_ONCE = 4


class MailError(Exception):
    """The settings of mail cannot be used; the text names the field."""


@dataclass(slots=True)
class Mailer:
    """Where mail is handed over."""

    config: NotificationsConfig
    password: str
    tls: ssl.SSLContext
    limiter: trio.CapacityLimiter

    async def send(self, address: str, subject: str, text: str, name: str) -> str | None:
        """Try once; returns what went wrong, None when the server took it."""
        return await trio.to_thread.run_sync(
            self.hand_over, address, subject, text, name, limiter=self.limiter
        )

    def hand_over(self, address: str, subject: str, text: str, name: str) -> str | None:
        """The same, here."""
        config = self.config
        try:
            message = EmailMessage()
            message["From"] = config.smtp_from
            message["To"] = address
            message["Subject"] = subject
            message["Date"] = formatdate()
            message["Message-ID"] = make_msgid(name, domain=config.smtp_from.rpartition("@")[2])
            message["Auto-Submitted"] = "auto-generated"
            message.set_content(text)
            with self._connected() as server:
                if config.smtp_user:
                    server.login(config.smtp_user, self.password)
                server.send_message(message)
        except (OSError, smtplib.SMTPException, ValueError) as error:
            return type(error).__name__  # its words may quote the address
        return None

    def _connected(self) -> smtplib.SMTP:
        config = self.config
        if config.smtp_security == "tls":
            return smtplib.SMTP_SSL(
                config.smtp_host, config.smtp_port, timeout=_SECONDS, context=self.tls
            )
        server = smtplib.SMTP(config.smtp_host, config.smtp_port, timeout=_SECONDS)
        try:
            if config.smtp_security == "starttls":
                server.starttls(context=self.tls)
        except BaseException:
            server.close()
            raise
        return server


def mailer_of(config: NotificationsConfig, base: Path) -> Mailer | None:
    """What sends mail by these settings; None without a host. Raises ``MailError``."""
    if not config.smtp_host:
        return None
    password = ""
    if config.smtp_password_file:
        password = read_secret(base / config.smtp_password_file, "smtp_password_file")
    tls = ssl.create_default_context()
    return Mailer(config, password, tls, trio.CapacityLimiter(_AT_ONCE))


def read_secret(file: Path, field: str) -> str:
    """What a file holds, without its last line's end. Raises ``MailError``."""
    try:
        secret = file.read_text(encoding="utf-8").rstrip("\r\n")
    except (OSError, UnicodeDecodeError) as error:
        raise MailError(f"notifications.{field}: {file} cannot be read: {error}") from None
    if not secret:
        raise MailError(f"notifications.{field}: {file} is empty")
    return secret
