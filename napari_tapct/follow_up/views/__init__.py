"""Two linked views: where each looks, its layers, and the lesions marked on them."""
