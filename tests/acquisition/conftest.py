from support.fixtures import backbones, feature_cache_in_tmp, fixed_random_state

__all__ = ["backbones", "feature_cache_in_tmp", "fixed_random_state"]
