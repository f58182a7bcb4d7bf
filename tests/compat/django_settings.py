"""Settings for Django's own test suite: scripts/compat runs it with PGPORT, PGHOST and PGUSER, and reads the verdicts from the file
that DJANGO_VERDICTS names, one "test verdict" a line."""

import os
import unittest

from django.test.runner import DiscoverRunner

_common = {
    "ENGINE": "django.db.backends.postgresql",
    "HOST": os.environ["PGHOST"],
    "PORT": os.environ["PGPORT"],
    "USER": os.environ["PGUSER"],
    # values sent beside the statement instead of within it
    "OPTIONS": {"server_side_binding": True} if os.environ.get("DJANGO_BINDING") == "server" else {},
}
DATABASES = {"default": {**_common, "NAME": "django"}, "other": {**_common, "NAME": "django_other"}}
SECRET_KEY = "of a test"
PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
DEFAULT_AUTO_FIELD = "django.db.models.AutoField"
USE_TZ = False
TEST_RUNNER = "django_settings.Runner"


class Verdicts(unittest.TextTestResult):
    """A test is ok when it and all its parts are; one that was skipped is neither."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.verdicts = open(os.environ["DJANGO_VERDICTS"], "w", buffering=1)

    def _note(self, test, verdict):
        print(test.id().replace(" ", "_"), verdict, file=self.verdicts)

    def addSuccess(self, test):
        super().addSuccess(test)
        self._note(test, "ok")

    def addExpectedFailure(self, test, err):
        super().addExpectedFailure(test, err)
        self._note(test, "ok")

    def addUnexpectedSuccess(self, test):
        super().addUnexpectedSuccess(test)
        self._note(test, "FAILED")

    def addError(self, test, err):
        super().addError(test, err)
        self._note(test, "FAILED")

    def addFailure(self, test, err):
        super().addFailure(test, err)
        self._note(test, "FAILED")

    def addSubTest(self, test, subtest, err):
        super().addSubTest(test, subtest, err)
        if err is not None:
            self._note(test, "FAILED")


class Runner(DiscoverRunner):
    def get_resultclass(self):
        return Verdicts
