"""The search space of MANAS: multi-scale cells with searchable columns and attention."""

from search_spaces.multi_scale_attentive.tower import MultiScaleAttentive

__all__ = ["MultiScaleAttentive"]
