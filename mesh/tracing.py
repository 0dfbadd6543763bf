"""Traces over OTLP, where an endpoint is set; otherwise trace ids are only passed on."""

from opentelemetry import trace


def configure(service: str, endpoint: str | None) -> None:
    """Once a process. Without an endpoint nothing is recorded and nothing is sent."""
    if endpoint is None:
        return
    from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.resources import SERVICE_NAME, Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    provider = TracerProvider(resource=Resource.create({SERVICE_NAME: f"murphey-{service}"}))
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(endpoint=endpoint)))
    trace.set_tracer_provider(provider)
