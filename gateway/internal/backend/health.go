package backend

import (
	"context"
	"sync"
	"time"

	"google.golang.org/grpc/connectivity"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"
)

const checkTimeout = 2 * time.Second

// Status of a service as its own health check answers, and why when it does not.
type Status struct {
	Status string `json:"status"`
	Error  string `json:"error,omitempty"`
}

// Check asks every service for its health at once, at most two seconds long.
func (b Backends) Check(ctx context.Context) (statuses map[string]Status, healthy bool) {
	ctx, cancel := context.WithTimeout(ctx, checkTimeout)
	defer cancel()
	statuses, healthy = map[string]Status{}, true
	var lock sync.Mutex
	var all sync.WaitGroup
	for name, backend := range b {
		all.Go(func() {
			answer := backend.check(ctx)
			lock.Lock()
			defer lock.Unlock()
			statuses[name] = answer
			healthy = healthy && answer.Status == healthpb.HealthCheckResponse_SERVING.String()
		})
	}
	all.Wait()
	return statuses, healthy
}

func (b *Backend) check(ctx context.Context) Status {
	response, err := healthpb.NewHealthClient(b.Conn).Check(ctx, &healthpb.HealthCheckRequest{Service: b.Service})
	if err != nil {
		return Status{Status: healthpb.HealthCheckResponse_NOT_SERVING.String(), Error: status.Convert(err).Message()}
	}
	return Status{Status: response.GetStatus().String()}
}

// Report keeps a health server up to date until the context ends: one entry a service, and "" for all of them together.
// A connection is READY only while the service behind it says SERVING, because its channel checks health.
func (b Backends) Report(ctx context.Context, server *health.Server) {
	changed := make(chan struct{}, 1)
	for _, backend := range b {
		server.SetServingStatus(backend.Service, healthpb.HealthCheckResponse_NOT_SERVING)
		go backend.watch(ctx, server, changed)
	}
	server.SetServingStatus("", healthpb.HealthCheckResponse_NOT_SERVING)
	for {
		select {
		case <-ctx.Done():
			return
		case <-changed:
			server.SetServingStatus("", b.together())
		}
	}
}

func (b *Backend) watch(ctx context.Context, server *health.Server, changed chan<- struct{}) {
	for {
		state := b.Conn.GetState()
		if state == connectivity.Idle {
			b.Conn.Connect()
		}
		server.SetServingStatus(b.Service, serving(state))
		select {
		case changed <- struct{}{}:
		default: // a look at all states is due already
		}
		if !b.Conn.WaitForStateChange(ctx, state) {
			return
		}
	}
}

func (b Backends) together() healthpb.HealthCheckResponse_ServingStatus {
	for _, backend := range b {
		if backend.Conn.GetState() != connectivity.Ready {
			return healthpb.HealthCheckResponse_NOT_SERVING
		}
	}
	return healthpb.HealthCheckResponse_SERVING
}

func serving(state connectivity.State) healthpb.HealthCheckResponse_ServingStatus {
	if state == connectivity.Ready {
		return healthpb.HealthCheckResponse_SERVING
	}
	return healthpb.HealthCheckResponse_NOT_SERVING
}
