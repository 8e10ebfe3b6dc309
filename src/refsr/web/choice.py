"""The models of the page: the one that is served, and perhaps a crisper one, loaded when it is first wanted."""

import threading
from collections.abc import Callable

from refsr.models import Blend, RefSRModel
from refsr.web.web_config import Style


class Models:
    """The served model, and perhaps a crisper one.

    Attributes:
        faithful: The served one.
    """

    def __init__(self, faithful: RefSRModel | Blend, load_crisp: Callable[[], RefSRModel] | None = None) -> None:
        self.faithful = Blend.of(faithful)
        self._load_crisp = load_crisp
        self._crisp: Blend | None = None
        self._loading = threading.Lock()

    @property
    def styles(self) -> tuple[Style, ...]:
        """What visitors may choose."""
        return ("faithful",) if self._load_crisp is None else ("faithful", "crisp")

    def of(self, style: Style) -> Blend:
        """The model of a style; the served one where there is no other.

        Raises:
            WeightsError: The weights are damaged.
        """
        if style != "crisp" or self._load_crisp is None:
            return self.faithful
        with self._loading:
            if self._crisp is None:
                self._crisp = Blend(self._load_crisp())
            return self._crisp
