// Package backend keeps the connections to the services behind the gateway: balanced, health-checked, kept alive, with
// retries only of what may be repeated. Connections are made in the background, so that the gateway starts without them.
package backend

import (
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/credentials"
	_ "google.golang.org/grpc/encoding/gzip" // clients may compress
	_ "google.golang.org/grpc/health"        // the client's health check
	"google.golang.org/grpc/keepalive"

	// The descriptors of all services, for reflection and for FirstMessageFirst.
	_ "murphey.dev/gateway/gen/murphey/generator/v1"
	_ "murphey.dev/gateway/gen/murphey/ingest/v1"
	_ "murphey.dev/gateway/gen/murphey/orchestrator/v1"
	_ "murphey.dev/gateway/gen/murphey/retriever/v1"
	"murphey.dev/gateway/internal/settings"
)

// MaxMessageBytes is the largest message either side takes, as in every service.
const MaxMessageBytes = 64 << 20

// Backend is one service behind the gateway.
type Backend struct {
	// Name is what people call it, such as `ingest`.
	Name string
	// Service is its full name, such as `murphey.ingest.v1.IngestService`.
	Service string
	Conn    *grpc.ClientConn
}

// services says what runs at each target, and which of its methods may be sent again when the service was not reached.
var services = map[string]struct {
	full       string
	idempotent []string
}{
	"orchestrator": {"murphey.orchestrator.v1.OrchestratorService", []string{"GetConversation", "ListConversations"}},
	"ingest": {"murphey.ingest.v1.IngestService", []string{
		"GetDocument", "ListDocuments", "GetDocumentText", "GetJob", "ListJobs"}},
	"retriever": {"murphey.retriever.v1.RetrieverService", []string{
		"Search", "Rerank", "UpsertChunks", "PublishDocuments", "DeleteChunks", "Embed", "GetCollection", "ListCollections"}},
	"generator": {"murphey.generator.v1.GeneratorService", []string{"CountTokens", "ListModels", "GetModel"}},
}

// Backends are all services, by short name.
type Backends map[string]*Backend

// Open prepares the connections; it does not wait for them. `transport` says whether they are in plain.
func Open(targets map[string]string, transport credentials.TransportCredentials) (Backends, error) {
	backends := Backends{}
	for _, service := range settings.Services {
		backend, err := open(service.Name, targets[service.Name], transport)
		if err != nil {
			backends.Close()
			return nil, fmt.Errorf("--%s: %q: %w", service.Name, targets[service.Name], err)
		}
		backends[service.Name] = backend
	}
	return backends, nil
}

// Close ends all connections and the calls on them.
func (b Backends) Close() {
	for _, backend := range b {
		_ = backend.Conn.Close()
	}
}

// For finds who answers a full method such as `/murphey.ingest.v1.IngestService/GetJob`: whoever has the package. Nil when
// it is nobody's.
func (b Backends) For(method string) *Backend {
	for _, backend := range b {
		packageName := backend.Service[:strings.LastIndex(backend.Service, ".")+1]
		if strings.HasPrefix(method, "/"+packageName) {
			return backend
		}
	}
	return nil
}

func open(name, target string, transport credentials.TransportCredentials) (*Backend, error) {
	if !strings.Contains(target, ":///") {
		target = "dns:///" + target
	}
	service := services[name]
	failures := unreachable{name}
	conn, err := grpc.NewClient(target,
		grpc.WithTransportCredentials(transport),
		grpc.WithNoProxy(),
		grpc.WithDisableServiceConfig(),
		grpc.WithDefaultServiceConfig(serviceConfig(service.full, service.idempotent)),
		grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: 10 * time.Second, Timeout: 5 * time.Second}),
		grpc.WithConnectParams(grpc.ConnectParams{
			Backoff:           backoff.Config{BaseDelay: 100 * time.Millisecond, Multiplier: 1.6, Jitter: 0.2, MaxDelay: 2 * time.Second},
			MinConnectTimeout: 5 * time.Second,
		}),
		grpc.WithIdleTimeout(0),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(MaxMessageBytes), grpc.MaxCallSendMsgSize(MaxMessageBytes)),
		grpc.WithUnaryInterceptor(failures.unary),
		grpc.WithStreamInterceptor(failures.stream),
	)
	if err != nil {
		return nil, err
	}
	conn.Connect()
	return &Backend{Name: name, Service: service.full, Conn: conn}, nil
}

func serviceConfig(service string, idempotent []string) string {
	type object = map[string]any
	names := []object{}
	for _, method := range idempotent {
		names = append(names, object{"service": service, "method": method})
	}
	config, err := json.Marshal(object{
		"loadBalancingConfig": []object{{"round_robin": object{}}},
		"healthCheckConfig":   object{"serviceName": service},
		"retryThrottling":     object{"maxTokens": 10, "tokenRatio": 0.1},
		"methodConfig": []object{{
			"name": names,
			"retryPolicy": object{
				"maxAttempts": 3, "initialBackoff": "0.1s", "maxBackoff": "1s", "backoffMultiplier": 2,
				"retryableStatusCodes": []string{"UNAVAILABLE"},
			},
		}},
	})
	if err != nil {
		panic(err) // strings and numbers always encode
	}
	return string(config)
}
