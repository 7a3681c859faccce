"""What people see: terminal output, the report and pictures."""

from __future__ import annotations
