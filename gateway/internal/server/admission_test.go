package server_test

import (
	"context"
	"net/http"
	"strings"
	"testing"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	orchestratorv1 "murphey.dev/gateway/gen/murphey/orchestrator/v1"
	"murphey.dev/gateway/internal/settings"
)

func TestRequestsBeyondTheBoundAreRefusedAtOnceAndHealthIsNot(t *testing.T) {
	mesh, gateway := start(t, func(s *settings.Settings) { s.MaxRequests = 1 })
	begun, release := make(chan bool), make(chan bool)
	mesh.orchestrator.answer = func(context.Context, *orchestratorv1.AnswerRequest) (*orchestratorv1.AnswerResponse, error) {
		begun <- true
		<-release
		return &orchestratorv1.AnswerResponse{}, nil
	}
	client := orchestratorv1.NewOrchestratorServiceClient(gateway.dial(t))
	first := make(chan error, 1)
	go func() {
		_, err := client.Answer(context.Background(), &orchestratorv1.AnswerRequest{})
		first <- err
	}()
	<-begun

	response := send(t, "POST", gateway.url+"/v1/answers", strings.NewReader("{}"))
	if response.StatusCode != http.StatusTooManyRequests || response.Header.Get("Retry-After") != "1" {
		t.Errorf("over HTTP: %d, Retry-After %q", response.StatusCode, response.Header.Get("Retry-After"))
	}
	if body := text(t, response); !strings.Contains(body, "1 requests under way") || !strings.Contains(body, "RetryInfo") {
		t.Errorf("over HTTP: %s", body)
	}
	_, err := client.Answer(t.Context(), &orchestratorv1.AnswerRequest{})
	if status.Code(err) != codes.ResourceExhausted || retryInfo(err) == nil {
		t.Errorf("over gRPC: %v, details %v", err, status.Convert(err).Details())
	}
	if health := send(t, "GET", gateway.url+"/healthz", nil); health.StatusCode != http.StatusOK {
		t.Errorf("/healthz: %d", health.StatusCode)
	}
	if _, err := healthpb.NewHealthClient(gateway.dial(t)).Check(t.Context(), &healthpb.HealthCheckRequest{}); err != nil {
		t.Errorf("gRPC health: %v", err)
	}

	release <- true
	if err := <-first; err != nil {
		t.Errorf("the one that was let in: %v", err)
	}
	go func() { <-begun; release <- true }()
	if _, err := client.Answer(t.Context(), &orchestratorv1.AnswerRequest{}); err != nil {
		t.Errorf("when there is room again: %v", err)
	}
}

func retryInfo(err error) *errdetails.RetryInfo {
	for _, detail := range status.Convert(err).Details() {
		if info, ok := detail.(*errdetails.RetryInfo); ok {
			return info
		}
	}
	return nil
}

func TestThePriorityGetsThrough(t *testing.T) {
	mesh, gateway := start(t)
	seen := make(chan []string, 1)
	mesh.orchestrator.answer = func(ctx context.Context, _ *orchestratorv1.AnswerRequest) (*orchestratorv1.AnswerResponse, error) {
		incoming, _ := metadata.FromIncomingContext(ctx)
		seen <- incoming.Get("x-murphey-priority")
		return &orchestratorv1.AnswerResponse{}, nil
	}
	send(t, "POST", gateway.url+"/v1/answers", strings.NewReader("{}"), "X-Murphey-Priority", "batch")
	if got := <-seen; len(got) != 1 || got[0] != "batch" {
		t.Errorf("over HTTP: %v", got)
	}
	ctx := metadata.AppendToOutgoingContext(t.Context(), "x-murphey-priority", "batch")
	if _, err := orchestratorv1.NewOrchestratorServiceClient(gateway.dial(t)).Answer(ctx, &orchestratorv1.AnswerRequest{}); err != nil {
		t.Fatal(err)
	}
	if got := <-seen; len(got) != 1 || got[0] != "batch" {
		t.Errorf("over gRPC: %v", got)
	}
}
