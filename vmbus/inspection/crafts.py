"""What `from vmbus.inspection import …` gives of making: ring images, and the page with pictures."""

from .craft_rings import CRAFT_EXAMPLE, CraftedImage, craft, craft_image, craft_ring
from .to_html import report_to_html

__all__ = [
    "CRAFT_EXAMPLE",
    "CraftedImage",
    "craft",
    "craft_image",
    "craft_ring",
    "report_to_html",
]
