// Package rest is the HTTP face of the services: JSON through grpc-gateway, streams as NDJSON or server-sent events,
// multipart upload, download, the OpenAPI file and health.
package rest

import (
	"context"
	"net/http"
	"time"

	"github.com/grpc-ecosystem/grpc-gateway/v2/runtime"
	"google.golang.org/protobuf/proto"

	ingestv1 "murphey.dev/gateway/gen/murphey/ingest/v1"
	orchestratorv1 "murphey.dev/gateway/gen/murphey/orchestrator/v1"
	retrieverv1 "murphey.dev/gateway/gen/murphey/retriever/v1"
	"murphey.dev/gateway/internal/backend"
)

// uploadIdle is how long an upload may stand still before it is given up.
const uploadIdle = 60 * time.Second

// Limits bound what a request may bring.
type Limits struct {
	UploadBytes, JSONBytes int64
	UploadIdle             time.Duration // 0 means a minute
	BodyIdle               time.Duration // how long any other body may stand still; 0 means forever
}

// New makes the handler of every HTTP path. `openAPI` is the file that protoc-gen-openapiv2 wrote.
func New(ctx context.Context, backends backend.Backends, limits Limits, openAPI []byte) (http.Handler, error) {
	if limits.UploadIdle == 0 {
		limits.UploadIdle = uploadIdle
	}
	mux := runtime.NewServeMux(
		runtime.WithMarshalerOption(runtime.MIMEWildcard, newJSON()),
		runtime.WithMarshalerOption(eventStream, &serverSentEvents{newJSON()}),
		runtime.WithIncomingHeaderMatcher(incomingHeader),
		runtime.WithOutgoingHeaderMatcher(noHeader),
		runtime.WithOutgoingTrailerMatcher(noHeader),
		runtime.WithErrorHandler(writeError),
		runtime.WithRoutingErrorHandler(writeRoutingError),
		runtime.WithForwardResponseOption(streamHeaders),
		runtime.WithDisableHTTPMethodOverride(),
		runtime.WithDisablePathLengthFallback(),
		runtime.WithDisableChunkedEncoding(), // net/http chunks by itself, and HTTP/2 must not carry the header
		runtime.WithUnescapingMode(runtime.UnescapingModeAllExceptReserved),
	)
	if err := register(ctx, mux, backends, limits); err != nil {
		return nil, err
	}
	document, err := completeOpenAPI(openAPI)
	if err != nil {
		return nil, err
	}
	paths := http.NewServeMux()
	paths.Handle("GET /openapi.json", serveDocument(document))
	paths.Handle("GET /healthz", serveHealth(backends))
	paths.Handle("/", mux)
	return withRequestState(limits, acceptsEvents(paths)), nil
}

func register(ctx context.Context, mux *runtime.ServeMux, backends backend.Backends, limits Limits) error {
	orchestrator := backend.FirstMessageFirst{ClientConn: backends["orchestrator"].Conn}
	ingest := backend.FirstMessageFirst{ClientConn: backends["ingest"].Conn}
	retriever := backend.FirstMessageFirst{ClientConn: backends["retriever"].Conn}
	documents := ingestv1.NewIngestServiceClient(backends["ingest"].Conn)

	if err := orchestratorv1.RegisterOrchestratorServiceHandlerClient(
		ctx, mux, orchestratorv1.NewOrchestratorServiceClient(orchestrator)); err != nil {
		return err
	}
	if err := ingestv1.RegisterIngestServiceHandlerClient(ctx, mux, ingestv1.NewIngestServiceClient(ingest)); err != nil {
		return err
	}
	if err := retrieverv1.RegisterRetrieverServiceHandlerClient(
		ctx, mux, retrieverv1.NewRetrieverServiceClient(retriever)); err != nil {
		return err
	}
	if err := mux.HandlePath(http.MethodPost, uploadPath, uploader{mux, documents, limits}.serve); err != nil {
		return err
	}
	return mux.HandlePath(http.MethodGet, downloadPath, downloader{mux, documents}.serve)
}

// streamHeaders is called with no message where a stream's header is sent: proxies on the way must not hold events back.
func streamHeaders(_ context.Context, w http.ResponseWriter, message proto.Message) error {
	if message == nil {
		w.Header().Set("X-Accel-Buffering", "no")
	}
	return nil
}
