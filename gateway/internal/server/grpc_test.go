package server_test

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/encoding/gzip"
	"google.golang.org/grpc/metadata"
	reflectionpb "google.golang.org/grpc/reflection/grpc_reflection_v1"
	"google.golang.org/grpc/status"

	generatorv1 "murphey.dev/gateway/gen/murphey/generator/v1"
	ingestv1 "murphey.dev/gateway/gen/murphey/ingest/v1"
	orchestratorv1 "murphey.dev/gateway/gen/murphey/orchestrator/v1"
	retrieverv1 "murphey.dev/gateway/gen/murphey/retriever/v1"
)

func TestGRPCUnaryWithMetadataDeadlineAndTrailers(t *testing.T) {
	mesh, gateway := start(t)
	mesh.retriever.search = func(ctx context.Context, query *retrieverv1.SearchRequest) (*retrieverv1.SearchResponse, error) {
		md, _ := metadata.FromIncomingContext(ctx)
		if deadline, ok := ctx.Deadline(); !ok || time.Until(deadline) > patience {
			t.Errorf("the deadline is %v, %v", deadline, ok)
		}
		_ = grpc.SetHeader(ctx, metadata.Pairs("from-server", "header"))
		_ = grpc.SetTrailer(ctx, metadata.Pairs("cost-bin", "\x00\x01"))
		return &retrieverv1.SearchResponse{IndexVersion: query.GetText() + strings.Join(md.Get("authorization"), "") + md.Get("blob-bin")[0]}, nil
	}
	client := retrieverv1.NewRetrieverServiceClient(gateway.dial(t))
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	ctx = metadata.AppendToOutgoingContext(ctx, "authorization", "Bearer x", "blob-bin", "\x00")
	large := strings.Repeat("x", 5<<20) // over gRPC's default limit of 4 MiB, within the mesh's
	var header, trailer metadata.MD
	response, err := client.Search(ctx, &retrieverv1.SearchRequest{Query: &retrieverv1.SearchRequest_Text{Text: large}}, grpc.Header(&header), grpc.Trailer(&trailer),
		grpc.UseCompressor(gzip.Name), grpc.MaxCallRecvMsgSize(6<<20))
	if err != nil || response.GetIndexVersion() != large+"Bearer x\x00" {
		t.Fatalf("got %d bytes, %v", len(response.GetIndexVersion()), err)
	}
	if header.Get("from-server")[0] != "header" || trailer.Get("cost-bin")[0] != "\x00\x01" {
		t.Errorf("got %v, %v", header, trailer)
	}
}

func TestNobodyOutsideSaysForWhichTenantAServiceCalls(t *testing.T) {
	mesh, gateway := start(t)
	mesh.retriever.search = func(ctx context.Context, _ *retrieverv1.SearchRequest) (*retrieverv1.SearchResponse, error) {
		md, _ := metadata.FromIncomingContext(ctx)
		return &retrieverv1.SearchResponse{IndexVersion: strings.Join(append(md.Get("murphey-tenant"), md.Get("x-api-key")...), " ")}, nil
	}
	ctx := metadata.AppendToOutgoingContext(t.Context(), "murphey-tenant", "acme", "x-api-key", "key")
	response, err := retrieverv1.NewRetrieverServiceClient(gateway.dial(t)).Search(ctx, &retrieverv1.SearchRequest{})
	if err != nil || response.GetIndexVersion() != "key" {
		t.Errorf("got %q, %v", response.GetIndexVersion(), err)
	}
	over := send(t, "POST", gateway.url+"/v1/search", strings.NewReader(`{"text": "a"}`),
		"Murphey-Tenant", "acme", "Grpc-Metadata-Murphey-Tenant", "acme", "X-Api-Key", "key")
	if got := text(t, over); !strings.Contains(got, `"indexVersion":"key"`) {
		t.Errorf("over HTTP: %s", got)
	}
}

func TestGRPCErrorsKeepTheirDetails(t *testing.T) {
	mesh, gateway := start(t)
	mesh.orchestrator.stream = func(*orchestratorv1.StreamAnswerRequest, answerStream) error { return overloaded(t) }
	client := orchestratorv1.NewOrchestratorServiceClient(gateway.dial(t))
	stream, err := client.StreamAnswer(t.Context(), &orchestratorv1.StreamAnswerRequest{})
	if err != nil {
		t.Fatal(err)
	}
	_, err = stream.Recv()
	failure := status.Convert(err)
	if failure.Code() != codes.ResourceExhausted || len(failure.Details()) != 2 {
		t.Fatalf("got %v", err)
	}
	if retry, ok := failure.Details()[1].(*errdetails.RetryInfo); !ok || retry.GetRetryDelay().AsDuration() != 1500*time.Millisecond {
		t.Errorf("got %v", failure.Details())
	}
	_, err = generatorv1.NewGeneratorServiceClient(gateway.dial(t)).ListModels(t.Context(), &generatorv1.ListModelsRequest{})
	if status.Code(err) != codes.Unimplemented {
		t.Errorf("a method that the service does not have: %v", err)
	}
	err = gateway.dial(t).Invoke(t.Context(), "/other.v1.OtherService/Do", &retrieverv1.Span{}, &retrieverv1.Span{})
	if status.Code(err) != codes.Unimplemented || !strings.Contains(err.Error(), "/other.v1.OtherService/Do") {
		t.Errorf("a service that nobody has: %v", err)
	}
}

func TestGRPCServerStreamIsNotHeldBackAndIsCancelled(t *testing.T) {
	mesh, gateway := start(t)
	cancelled := make(chan bool, 1)
	mesh.orchestrator.stream = func(_ *orchestratorv1.StreamAnswerRequest, stream answerStream) error {
		if err := stream.Send(started("a1")); err != nil {
			return err
		}
		<-stream.Context().Done()
		cancelled <- true
		return nil
	}
	ctx, cancel := context.WithCancel(t.Context())
	stream, err := orchestratorv1.NewOrchestratorServiceClient(gateway.dial(t)).StreamAnswer(ctx, &orchestratorv1.StreamAnswerRequest{})
	if err != nil {
		t.Fatal(err)
	}
	if event, err := stream.Recv(); err != nil || event.GetStarted().GetAnswerId() != "a1" {
		t.Fatalf("got %v, %v", event, err)
	}
	cancel()
	arrives(t, cancelled, "the cancellation")
}

func TestGRPCClientStream(t *testing.T) {
	mesh, gateway := start(t)
	uploads := make(chan received, 1)
	mesh.ingest.upload = receive(uploads)
	client := ingestv1.NewIngestServiceClient(gateway.dial(t))
	header := &ingestv1.UploadDocumentRequest{Content: &ingestv1.UploadDocumentRequest_Header{Header: &ingestv1.UploadHeader{DisplayName: "a"}}}
	piece := &ingestv1.UploadDocumentRequest{Content: &ingestv1.UploadDocumentRequest_Data{Data: make([]byte, 1<<20)}}

	stream, err := client.UploadDocument(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, message := range slices.Concat([]*ingestv1.UploadDocumentRequest{header}, slices.Repeat([]*ingestv1.UploadDocumentRequest{piece}, 8)) {
		if err := stream.Send(message); err != nil {
			t.Fatal(err)
		}
	}
	if response, err := stream.CloseAndRecv(); err != nil || response.GetDocument().GetDisplayName() != "a" {
		t.Errorf("got %v, %v", response, err)
	}
	if got := arrives(t, uploads, "the upload"); got.bytes != 8<<20 || got.err != nil {
		t.Errorf("got %+v", got)
	}
}

func TestABrokenOffGRPCUploadIsCancelled(t *testing.T) {
	mesh, gateway := start(t)
	begun, ended := make(chan bool, 1), make(chan error, 1)
	mesh.ingest.upload = func(stream ingestv1.IngestService_UploadDocumentServer) error {
		_, err := stream.Recv()
		for begun <- true; err == nil; {
			_, err = stream.Recv()
		}
		ended <- err
		return err
	}
	ctx, cancel := context.WithCancel(t.Context())
	stream, err := ingestv1.NewIngestServiceClient(gateway.dial(t)).UploadDocument(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if err := stream.Send(&ingestv1.UploadDocumentRequest{}); err != nil {
		t.Fatal(err)
	}
	arrives(t, begun, "the upload")
	cancel()
	if err := arrives(t, ended, "the upload's end"); status.Code(err) != codes.Canceled {
		t.Errorf("it ended with %v", err)
	}
}

func TestGRPCStreamInBothDirections(t *testing.T) {
	_, gateway := start(t)
	stream, err := gateway.dial(t).NewStream(t.Context(), &grpc.StreamDesc{ServerStreams: true, ClientStreams: true},
		"/murphey.generator.v1.Future/Chat")
	if err != nil {
		t.Fatal(err)
	}
	for turn := range int64(3) { // each answer is awaited before the next question: nothing may be held back
		answer := &retrieverv1.Span{}
		if err := errors.Join(stream.SendMsg(&retrieverv1.Span{End: turn}), stream.RecvMsg(answer)); err != nil || answer.GetEnd() != turn {
			t.Fatalf("got %v, %v", answer, err)
		}
	}
	if err := stream.CloseSend(); err != nil {
		t.Fatal(err)
	}
	if err := stream.RecvMsg(&retrieverv1.Span{}); !errors.Is(err, io.EOF) {
		t.Errorf("got %v", err)
	}
}

func TestGRPCDeadServiceIsNamed(t *testing.T) {
	mesh, gateway := start(t)
	mesh.servers["generator"].Stop()
	_, err := generatorv1.NewGeneratorServiceClient(gateway.dial(t)).ListModels(t.Context(), &generatorv1.ListModelsRequest{})
	if status.Code(err) != codes.Unavailable || !strings.Contains(err.Error(), "The generator service cannot be reached") {
		t.Errorf("got %v", err)
	}
}

func TestGRPCReflectionListsTheServicesBehind(t *testing.T) {
	_, gateway := start(t)
	stream, err := reflectionpb.NewServerReflectionClient(gateway.dial(t)).ServerReflectionInfo(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	ask := func(request *reflectionpb.ServerReflectionRequest) *reflectionpb.ServerReflectionResponse {
		if err := stream.Send(request); err != nil {
			t.Fatal(err)
		}
		response, err := stream.Recv()
		if err != nil {
			t.Fatal(err)
		}
		return response
	}
	listed := ask(&reflectionpb.ServerReflectionRequest{MessageRequest: &reflectionpb.ServerReflectionRequest_ListServices{}})
	var names []string
	for _, service := range listed.GetListServicesResponse().GetService() {
		names = append(names, service.GetName())
	}
	for _, want := range []string{"murphey.generator.v1.GeneratorService", "murphey.ingest.v1.IngestService",
		"murphey.orchestrator.v1.OrchestratorService", "murphey.retriever.v1.RetrieverService", "grpc.health.v1.Health"} {
		if !slices.Contains(names, want) {
			t.Errorf("%s is not in %v", want, names)
		}
	}
	file := ask(&reflectionpb.ServerReflectionRequest{MessageRequest: &reflectionpb.ServerReflectionRequest_FileContainingSymbol{
		FileContainingSymbol: "murphey.generator.v1.GeneratorService"}})
	if len(file.GetFileDescriptorResponse().GetFileDescriptorProto()) == 0 {
		t.Errorf("got %v", file)
	}
}

// TestJSONOverHTTP2 speaks HTTP/2 without TLS to the same port, as gRPC does.
func TestJSONOverHTTP2(t *testing.T) {
	mesh, gateway := start(t)
	steps := make(chan *orchestratorv1.StreamAnswerResponse, 1)
	steps <- started("a1")
	close(steps)
	mesh.orchestrator.stream = inSteps(steps, nil)
	protocols := &http.Protocols{}
	protocols.SetUnencryptedHTTP2(true)
	transport := &http.Transport{Protocols: protocols, DialContext: (&net.Dialer{}).DialContext}
	t.Cleanup(transport.CloseIdleConnections)
	request, _ := http.NewRequestWithContext(t.Context(), "POST", gateway.url+"/v1/answers:stream", strings.NewReader(`{}`))
	response, err := (&http.Client{Transport: transport}).Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	if body := text(t, response); response.ProtoMajor != 2 || !strings.Contains(body, "a1") {
		t.Errorf("got HTTP/%d, %q", response.ProtoMajor, body)
	}
}
