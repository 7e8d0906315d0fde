"""Inference for other applications: the models of the bundles over HTTP and gRPC.

catalogue   which models are offered, and what each takes and gives
batcher     requests into calls: what waits at the same time is one call
clients     who may ask, and how much
door        one request of the protocol into one answer, for HTTP and gRPC alike
http, grpc  the two transports
people      the higher door: /v1/forecast and /v1/score
openapi     what the HTTP side says of itself
service     start, probes, drain
"""
