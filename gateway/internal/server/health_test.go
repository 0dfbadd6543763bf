package server_test

import (
	"testing"
	"time"

	healthpb "google.golang.org/grpc/health/grpc_health_v1"
)

func TestGRPCHealthFollowsTheServices(t *testing.T) {
	mesh, gateway := start(t)
	client := healthpb.NewHealthClient(gateway.dial(t))
	const serving, not = healthpb.HealthCheckResponse_SERVING, healthpb.HealthCheckResponse_NOT_SERVING
	all, ingest := watch(t, client, ""), watch(t, client, "murphey.ingest.v1.IngestService")
	expectHealth(t, all, serving)
	expectHealth(t, ingest, serving)
	mesh.health["ingest"].SetServingStatus("murphey.ingest.v1.IngestService", not)
	expectHealth(t, ingest, not)
	expectHealth(t, all, not)
	mesh.health["ingest"].SetServingStatus("murphey.ingest.v1.IngestService", serving)
	expectHealth(t, all, serving)
	expectHealth(t, ingest, serving)
	if response, err := client.Check(t.Context(), &healthpb.HealthCheckRequest{}); err != nil || response.GetStatus() != serving {
		t.Errorf("got %v, %v", response, err)
	}
	mesh.servers["ingest"].Stop()
	expectHealth(t, all, not)
}

// TestGRPCHealthIsKnownFromTheStart: a client that checks health gives up on the first NOT_SERVING.
func TestGRPCHealthIsKnownFromTheStart(t *testing.T) {
	mesh := startMesh(t)
	for range 20 {
		gateway := startGateway(t, mesh)
		for _, service := range []string{"", "murphey.ingest.v1.IngestService"} {
			response, err := watch(t, healthpb.NewHealthClient(gateway.dial(t)), service).Recv()
			if err != nil || response.GetStatus() != healthpb.HealthCheckResponse_SERVING {
				t.Fatalf("%q: the first status is %v, %v", service, response, err)
			}
		}
	}
}

// TestGRPCHealthStandsWhileConnectionsAreRenewed: services close connections that have grown old.
func TestGRPCHealthStandsWhileConnectionsAreRenewed(t *testing.T) {
	connected := make(chan bool, 100)
	mesh := startMesh(t, func(m *mesh) { m.connected, m.maxAge = connected, 200*time.Millisecond })
	gateway := startGateway(t, mesh)
	stream := watch(t, healthpb.NewHealthClient(gateway.dial(t)), "")
	if response, err := stream.Recv(); err != nil || response.GetStatus() != healthpb.HealthCheckResponse_SERVING {
		t.Fatalf("got %v, %v", response, err)
	}
	changed := make(chan healthpb.HealthCheckResponse_ServingStatus, 1)
	go func() {
		if response, err := stream.Recv(); err == nil {
			changed <- response.GetStatus()
		}
	}()
	for range 4 * 4 { // four services, three renewals each and the first
		arrives(t, connected, "a connection")
	}
	select {
	case status := <-changed:
		t.Errorf("a renewal was told as %v", status)
	default:
	}
}

func watch(t *testing.T, client healthpb.HealthClient, service string) healthpb.Health_WatchClient {
	t.Helper()
	stream, err := client.Watch(t.Context(), &healthpb.HealthCheckRequest{Service: service})
	if err != nil {
		t.Fatal(err)
	}
	return stream
}

// expectHealth waits until the watched status is the wanted one.
func expectHealth(t *testing.T, stream healthpb.Health_WatchClient, want healthpb.HealthCheckResponse_ServingStatus) {
	t.Helper()
	reached := make(chan error, 1)
	go func() {
		for {
			response, err := stream.Recv()
			if err != nil || response.GetStatus() == want {
				reached <- err
				return
			}
		}
	}()
	if err := arrives(t, reached, want.String()); err != nil {
		t.Fatal(err)
	}
}
