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
// `known` is closed when the first answer of every service is in; before, an entry says NOT_SERVING for want of one.
func (b Backends) Report(ctx context.Context, server *health.Server) (known <-chan struct{}) {
	report := &report{server: server, serving: map[string]bool{}}
	var first sync.WaitGroup
	for _, backend := range b {
		report.set(backend.Service, false)
	}
	for _, backend := range b {
		first.Add(1)
		go report.follow(ctx, backend, sync.OnceFunc(first.Done))
	}
	all := make(chan struct{})
	go func() {
		first.Wait()
		close(all)
	}()
	return all
}

type report struct {
	server  *health.Server
	lock    sync.Mutex
	serving map[string]bool
}

func (r *report) set(service string, serving bool) {
	r.lock.Lock()
	defer r.lock.Unlock()
	r.serving[service] = serving
	r.server.SetServingStatus(service, statusOf(serving))
	together := true
	for _, one := range r.serving {
		together = together && one
	}
	r.server.SetServingStatus("", statusOf(together))
}

// follow takes a service's health from its connection, whose channel checks it: READY means SERVING. A connection that is
// idle or connecting has no news, and what was said before stands: servers close connections that have grown old, and a
// client that watches must not hear of a failure then.
func (r *report) follow(ctx context.Context, backend *Backend, decided func()) {
	defer decided()
	for {
		state := backend.Conn.GetState()
		switch state {
		case connectivity.Ready, connectivity.TransientFailure:
			r.set(backend.Service, state == connectivity.Ready)
			decided()
		case connectivity.Idle:
			backend.Conn.Connect()
		}
		if !backend.Conn.WaitForStateChange(ctx, state) {
			return
		}
	}
}

func statusOf(serving bool) healthpb.HealthCheckResponse_ServingStatus {
	if serving {
		return healthpb.HealthCheckResponse_SERVING
	}
	return healthpb.HealthCheckResponse_NOT_SERVING
}
