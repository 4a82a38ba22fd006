"""LRPilot in Hugging Face's Trainer: `Trainer(callbacks=[LRControllerCallback(...)])`."""

try:
    import transformers as _transformers  # noqa: F401
except ImportError as error:
    raise ImportError(
        'lrpilot.huggingface needs Transformers: pip install "lrpilot[huggingface]"'
    ) from error

from lrpilot.huggingface.callback import LRControllerCallback

__all__ = ["LRControllerCallback"]
