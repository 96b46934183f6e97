"""Trained models in the tools of others: ONNX Runtime, torch.export and AOTInductor, the Hub, MONAI bundles."""
